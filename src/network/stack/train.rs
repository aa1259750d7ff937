//! Datagrams of one size between the same two ends, one behind the other: the kernel takes many in one call, and
//! takes them apart where they arrive (udp(7), `UDP_SEGMENT`; `VIRTIO_NET_HDR_GSO_UDP_L4`). A small one costs its call
//! much more than its bytes.

use crate::network::stack::link::Link;
use crate::network::stack::packet;
use crate::network::stack::packet::Path;

/// How many bytes of how many datagrams there are.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cars {
    /// Of each datagram but the last one, which may be smaller.
    pub size: usize,
    pub length: usize,
    pub count: usize,
}

impl Cars {
    pub fn one(length: usize) -> Cars {
        Cars {
            size: length,
            length,
            count: 1,
        }
    }

    /// Takes one more of `length` bytes, if there may be one; `room` is for all.
    pub fn take(&mut self, length: usize, room: usize) -> bool {
        let is_whole = self.length == self.count * self.size;
        let fits = (1..=self.size).contains(&length) && self.length + length <= room;
        let may = is_whole && fits && self.count < packet::DATAGRAMS;
        if may {
            self.length += length;
            self.count += 1;
        }
        may
    }
}

/// On their way to the container, in the frame of the link.
#[derive(Default)]
pub struct Train {
    of: Option<(Path, (u16, u16))>,
    cars: Cars,
}

impl Train {
    /// Where the first one begins: the headers of either family fit before it.
    const START: usize = packet::HEADROOM;

    /// Where the next datagram is received.
    pub fn room<'a>(&self, link: &'a mut Link) -> &'a mut [u8] {
        let at = Train::START + self.cars.length;
        &mut link.frame[at..at + packet::FRAME]
    }

    /// One of `length` bytes is there.
    pub fn add(&mut self, link: &mut Link, path: Path, ports: (u16, u16), length: usize) {
        let room = packet::largest_datagram(path.target.is_ipv4());
        if self.of != Some((path, ports)) || !self.cars.take(length, room) {
            let at = Train::START + self.cars.length;
            self.send(link);
            link.frame.copy_within(at..at + length, Train::START);
            self.of = Some((path, ports));
            self.cars = Cars::one(length);
        }
        let whole = packet::datagram(path, self.cars.size);
        let joins = link.joins_datagrams && !link.meter.inward.is_limited();
        if !joins || whole > link.mtu.into() {
            self.send(link);
        }
    }

    pub fn send(&mut self, link: &mut Link) {
        let cars = std::mem::take(&mut self.cars);
        let Some((path, ports)) = self.of.take() else {
            return;
        };
        let start = Train::START - packet::udp_payload_at(path);
        let frame = &mut link.frame[start..];
        let end = packet::udp(frame, path, ports.0, ports.1, cars.length);
        if cars.count > 1 {
            packet::mark_datagrams(frame, cars.size);
        }
        link.send_part(start..start + end);
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;
    use std::os::unix::net::UnixDatagram;
    use std::time::Duration;

    use super::*;
    use crate::network::stack::Network;
    use crate::network::stack::tests::limited;

    /// What the container gets: the size of the datagrams where a frame has many, and its bytes.
    fn frames(network: &mut Network, container: &UnixDatagram) -> Vec<(Option<usize>, Vec<u8>)> {
        let mut buffer = vec![0; packet::FRAME];
        let mut frames = vec![];
        network.serve();
        while let Ok(length) = container.recv(&mut buffer) {
            let (_, bytes) = packet::ethernet(&buffer[..length]).unwrap();
            let packet = packet::ipv4(bytes).unwrap();
            let (_, _, payload) = packet::parse_udp(packet.payload).unwrap();
            frames.push((packet::size_of_datagrams(&buffer), payload.to_vec()));
        }
        frames
    }

    /// Both ways, over a way that takes them and one that does not.
    #[test]
    fn they_arrive_as_they_were_sent() {
        let sizes = [100, 100, 100, 40, 100, 0, 7, 7, 9000, 9000];
        let texts: Vec<Vec<u8>> = (0_u8..).zip(sizes).map(|(i, n)| vec![i; n]).collect();
        for joins in [true, false] {
            let (mut network, container) = limited("", "unlimited");
            network.link.joins_datagrams = joins;
            let server = UdpSocket::bind("127.0.0.1:0").unwrap();
            let patience = Some(Duration::from_secs(5));
            server.set_read_timeout(patience).unwrap();
            let port = server.local_addr().unwrap().port();
            let path = network.link.outward(network.link.addresses.gateway4.into());
            let start = packet::udp_payload_at(path);
            let mut frame = vec![0; packet::FRAME];
            let mut send = |bytes: &[u8], size: Option<usize>| {
                frame[start..start + bytes.len()].copy_from_slice(bytes);
                let end = packet::udp(&mut frame, path, 40001, port, bytes.len());
                if let Some(size) = size {
                    packet::mark_datagrams(&mut frame, size);
                }
                container.send(&frame[..end]).unwrap();
            };
            send(&texts[..4].concat(), Some(100));
            for text in &texts[4..] {
                send(text, None);
            }
            network.serve();
            let mut buffer = vec![0; packet::FRAME];
            for text in &texts {
                let (length, peer) = server.recv_from(&mut buffer).unwrap();
                assert_eq!(buffer[..length], *text);
                server.send_to(text, peer).unwrap();
            }
            let single = |i: usize| (None, texts[i].clone());
            let many =
                |range: std::ops::Range<usize>| (Some(sizes[range.start]), texts[range].concat());
            let expected = if joins {
                vec![many(0..4), single(4), single(5), many(6..8), many(8..10)]
            } else {
                (0..10).map(single).collect()
            };
            assert_eq!(frames(&mut network, &container), expected);
        }
    }

    #[test]
    fn all_are_of_one_size_but_the_last() {
        let mut cars = Cars::one(100);
        assert!(!cars.take(101, 1000) && !cars.take(0, 1000));
        assert!(cars.take(100, 1000) && cars.take(7, 1000));
        assert!(!cars.take(7, 1000) && !cars.take(100, 1000));
        assert_eq!((cars.size, cars.length, cars.count), (100, 207, 3));
        assert!(!Cars::one(0).take(0, 1000));
        assert!(!Cars::one(600).take(600, 1000));
        let mut many = Cars::one(1);
        let taken = (0..1000).take_while(|_| many.take(1, 1000)).count();
        assert_eq!(taken + 1, packet::DATAGRAMS);
    }
}
