//! Where mail goes: from DNS answers to an ordered plan of hosts. Never sends a query itself.
