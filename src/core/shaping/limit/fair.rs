//! Whose turn it is in a lane: deficit round robin between tenants, and the flows of each in turn. It
//! knows numbers only; what a flow has to send is its owner's affair. O(1) for each that comes or goes.

/// No flow or tenant.
const NIL: u32 = u32::MAX;

/// A singly linked list through seats or tenants.
#[derive(Clone, Copy, Debug)]
struct List {
    head: u32,
    tail: u32,
}

const EMPTY: List = List {
    head: NIL,
    tail: NIL,
};

#[derive(Clone, Copy, Debug)]
struct Seat {
    tenant: u32,
    next: u32,
    /// It is in its tenant's ring.
    stands: bool,
    /// It has something to send. One that has not leaves the ring when its turn comes.
    wants: bool,
}

#[derive(Clone, Copy, Debug)]
struct Tenant {
    weight: u16,
    /// Messages left of its turn.
    deficit: u16,
    ring: List,
    next: u32,
    stands: bool,
}

/// The flows of one lane that may send. In each round a tenant may send as many messages as its weight
/// says; one flow waits for nobody else's limit.
#[derive(Debug)]
pub struct Fair {
    seats: Vec<Seat>,
    tenants: Vec<Tenant>,
    ring: List,
}

impl Default for Fair {
    fn default() -> Self {
        Self {
            seats: Vec::new(),
            tenants: Vec::new(),
            ring: EMPTY,
        }
    }
}

/// Grows by one at a time at first: most lanes have one flow of one tenant.
fn reach<T: Copy>(values: &mut Vec<T>, index: u32, fill: T) {
    let length = index as usize + 1;
    if values.is_empty() && length == 1 {
        values.reserve_exact(1);
    }
    if values.len() < length {
        values.resize(length, fill);
    }
}

impl Fair {
    /// Says whose `flow` is, and that tenant's weight from here on; zero counts as one. Numbers are
    /// the caller's, small, and may be used again for others.
    pub fn assign(&mut self, flow: u32, tenant: u32, weight: u16) {
        let seat = Seat {
            tenant,
            next: NIL,
            stands: false,
            wants: false,
        };
        reach(&mut self.seats, flow, seat);
        let nobody = Tenant {
            weight: 1,
            deficit: 0,
            ring: EMPTY,
            next: NIL,
            stands: false,
        };
        reach(&mut self.tenants, tenant, nobody);
        self.tenants[tenant as usize].weight = weight.max(1);
        let old = self.seats[flow as usize];
        if old.tenant != tenant {
            self.drop_out(flow);
            self.seats[flow as usize] = seat;
            if old.wants {
                self.enter(flow);
            }
        }
    }

    /// Octets of memory behind this value.
    pub fn octets(&self) -> usize {
        self.seats.capacity() * size_of::<Seat>() + self.tenants.capacity() * size_of::<Tenant>()
    }

    /// Takes a seat out of the midst of its ring. O(ring), for what seldom happens.
    fn drop_out(&mut self, flow: u32) {
        let Seat {
            tenant,
            next,
            stands,
            ..
        } = self.seats[flow as usize];
        if !stands {
            return;
        }
        let ring = &mut self.tenants[tenant as usize].ring;
        if ring.head == flow {
            ring.head = next;
            if next == NIL {
                ring.tail = NIL;
            }
            return;
        }
        let mut before = ring.head;
        while self.seats[before as usize].next != flow {
            before = self.seats[before as usize].next;
        }
        self.seats[before as usize].next = next;
        if ring.tail == flow {
            ring.tail = before;
        }
    }

    /// An assigned flow has something to send. Nothing changes for one that had before.
    pub fn enter(&mut self, flow: u32) {
        let seat = &mut self.seats[flow as usize];
        seat.wants = true;
        if !seat.stands {
            self.push_seat(flow);
        }
    }

    /// It has not, or may not. Its turn in the round is kept until it comes.
    pub fn leave(&mut self, flow: u32) {
        if let Some(seat) = self.seats.get_mut(flow as usize) {
            seat.wants = false;
        }
    }

    fn push_seat(&mut self, flow: u32) {
        let seat = &mut self.seats[flow as usize];
        seat.stands = true;
        seat.next = NIL;
        let index = seat.tenant;
        let tenant = &mut self.tenants[index as usize];
        let tail = core::mem::replace(&mut tenant.ring.tail, flow);
        let stood = core::mem::replace(&mut tenant.stands, true);
        if tail == NIL {
            tenant.ring.head = flow;
        } else {
            self.seats[tail as usize].next = flow;
        }
        if !stood {
            self.push_tenant(index);
        }
    }

    fn push_tenant(&mut self, index: u32) {
        self.tenants[index as usize].next = NIL;
        let tail = core::mem::replace(&mut self.ring.tail, index);
        if tail == NIL {
            self.ring.head = index;
        } else {
            self.tenants[tail as usize].next = index;
        }
    }

    /// Whose turn it is. Those that left drop out here, each once.
    pub fn head(&mut self) -> Option<u32> {
        while self.ring.head != NIL {
            let index = self.ring.head;
            let tenant = &mut self.tenants[index as usize];
            let flow = tenant.ring.head;
            if flow == NIL {
                tenant.stands = false;
                tenant.deficit = 0;
                self.ring.head = tenant.next;
                if self.ring.head == NIL {
                    self.ring.tail = NIL;
                }
                continue;
            }
            let seat = &mut self.seats[flow as usize];
            if seat.wants {
                return Some(flow);
            }
            seat.stands = false;
            tenant.ring.head = seat.next;
            if seat.next == NIL {
                tenant.ring.tail = NIL;
            }
        }
        None
    }

    /// The flow that `head` named has sent a message: it is last of its tenant's, and the tenant last
    /// of all if that was the end of its turn.
    pub fn served(&mut self) {
        let index = self.ring.head;
        if index == NIL {
            return;
        }
        let tenant = &mut self.tenants[index as usize];
        if tenant.deficit == 0 {
            tenant.deficit = tenant.weight;
        }
        tenant.deficit -= 1;
        let is_over = tenant.deficit == 0;
        let List { head: flow, tail } = tenant.ring;
        if flow != tail {
            tenant.ring.head = self.seats[flow as usize].next;
            self.push_seat(flow);
        }
        if is_over && self.ring.head != self.ring.tail {
            self.ring.head = self.tenants[index as usize].next;
            self.push_tenant(index);
        }
    }
}
