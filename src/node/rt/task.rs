//! Tasks of the executor of this thread.

use core::future::Future;
use core::time::Duration;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub struct Task<T>(glommio::Task<T>);

impl<T: 'static> Task<T> {
    /// Waits for its end.
    pub async fn join(self) -> T {
        self.0.await
    }

    /// Lets it run to its own end.
    pub fn detach(self) {
        self.0.detach();
    }
}

/// Starts `work` beside what runs on this thread.
pub fn spawn<T: 'static>(work: impl Future<Output = T> + 'static) -> Task<T> {
    Task(glommio::spawn_local(work))
}

/// A wait, however short: with nothing to run the executor looks at its sockets.
const A_MOMENT: Duration = Duration::from_micros(1);

/// Lets all else on this thread have its turn, whatever waits for a socket included.
pub async fn give_way() {
    sleep(A_MOMENT).await;
}

pub async fn sleep(duration: Duration) {
    glommio::timer::sleep(duration).await;
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;
    use std::net::UdpSocket as Server;
    use std::rc::Rc;
    use std::thread;

    use super::*;
    use crate::rt::{UdpSocket, now, run};

    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn who_gives_way_lets_sockets_have_their_turn() {
        run(async {
            let server = Server::bind("127.0.0.1:0").unwrap();
            let address = server.local_addr().unwrap();
            let answering = thread::spawn(move || {
                let (_, peer) = server.recv_from(&mut [0; 8]).unwrap();
                // By then who asked is busy.
                thread::sleep(Duration::from_millis(50));
                server.send_to(b"!", peer).unwrap();
            });
            let has_heard = Rc::new(Cell::new(false));
            let hearing = Rc::clone(&has_heard);
            let other = spawn(async move {
                let socket = UdpSocket::connect(address).await.unwrap();
                socket.send(b"?").await.unwrap();
                socket.recv(&mut [0; 8], PATIENCE).await.unwrap();
                hearing.set(true);
            });
            // A task that never waits keeps all others from their turn.
            let deadline = now() + PATIENCE / 4;
            while !has_heard.get() && now() < deadline {
                give_way().await;
            }
            assert!(has_heard.get(), "the other task had its turn");
            other.join().await;
            answering.join().unwrap();
        })
        .unwrap();
    }
}
