use super::*;

const ANY: &str = "127.0.0.1:0";

fn bind(address: &str) -> Socket {
    Socket::bind(address.parse().unwrap()).unwrap()
}

fn open(sockets: &mut Sockets, id: u64) -> Result<SocketAddr, CloseReason> {
    let index = sockets.open(SocketId(id), ANY.parse().unwrap())?;
    Ok(sockets.at(index).unwrap().local_address())
}

#[test]
fn an_exact_address_is_preferred_to_a_wildcard_on_the_same_port() {
    let exact = bind(ANY);
    let port = exact.local_address().port();
    let mut sockets = Sockets::bind(["[::]:0".parse().unwrap()]).unwrap();
    sockets.add(exact).unwrap();
    assert_eq!(sockets.index_of(SocketAddr::new([127, 0, 0, 1].into(), port)), Some(1));
    assert_eq!(sockets.index_of(SocketAddr::new([127, 0, 0, 2].into(), port)), None);
    let v6 = sockets.local_addresses().next().unwrap().port();
    assert_eq!(sockets.index_of(format!("[::1]:{v6}").parse().unwrap()), Some(0));
    assert_eq!(sockets.index_of(SocketAddr::new([127, 0, 0, 1].into(), v6)), None);
}

#[test]
fn a_path_without_a_socket_is_counted_and_dropped() {
    let mut sockets = Sockets::new();
    let path = FourTuple::new("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
    assert_eq!(sockets.send(&Transmit::new(path), b"lost"), Ok(()));
    assert_eq!(sockets.counters().no_socket, 1);
}

#[test]
fn a_removed_socket_sends_no_more_and_the_others_keep_their_indices() {
    let mut sockets = Sockets::bind([ANY.parse().unwrap(); 3]).unwrap();
    let locals: Vec<SocketAddr> = sockets.local_addresses().collect();
    let path = FourTuple::new(locals[1], locals[0]);
    sockets.send(&Transmit::new(path), b"first").unwrap();
    let removed = sockets.remove(1).unwrap();
    assert_eq!(removed.local_address(), locals[1]);
    assert!(sockets.remove(1).is_none() && sockets.at(1).is_none());
    // The way that the latest datagram took is forgotten with the socket.
    sockets.send(&Transmit::new(path), b"second").unwrap();
    assert_eq!(sockets.counters().no_socket, 1);
    assert_eq!((sockets.index_of(locals[0]), sockets.index_of(locals[2])), (Some(0), Some(2)));
    assert_eq!(sockets.add(removed).unwrap(), 1);
    sockets.send(&Transmit::new(path), b"third").unwrap();
    assert_eq!((sockets.counters().no_socket, sockets.len()), (1, 3));
}

#[test]
fn what_a_machine_opened_is_its_own_and_what_it_was_given_is_not() {
    let mut sockets = Sockets::bind([ANY.parse().unwrap()]).unwrap();
    let given = sockets.local_addresses().next().unwrap();
    let requested = open(&mut sockets, 7).unwrap();
    assert_eq!((sockets.given(given), sockets.given(requested)), (Some(0), None));
    assert_eq!((sockets.requested(SocketId(7)), sockets.requested(SocketId(8))), (Some(1), None));
    assert_eq!((sockets.id_of(0), sockets.id_of(1)), (None, Some(SocketId(7))));
    assert_eq!(sockets.local_addresses().collect::<Vec<_>>(), [given]);
    assert_eq!(sockets.index_of(requested), Some(1));

    let error = || io::Error::from_raw_os_error(libc::EIO);
    assert!(sockets.give_up(0, error()).is_err());
    assert_eq!(sockets.give_up(1, error()).unwrap(), (SocketId(7), CloseReason::Failed));
    assert_eq!((sockets.len(), sockets.counters().requested_failed), (1, 1));
    assert!(Socket::bind(requested).is_ok(), "the port is free again");
}

#[test]
fn an_address_in_use_a_foreign_address_and_a_used_name_are_refused_and_counted() {
    let mut sockets = Sockets::new();
    let holder = bind(ANY);
    let mut refused = |id, address| sockets.open(SocketId(id), address).unwrap_err();
    assert_eq!(refused(1, holder.local_address()), CloseReason::AddressUnavailable);
    // 192.0.2.0/24 is documentation space (RFC 5737): never an address of this host.
    assert_eq!(refused(2, "192.0.2.1:0".parse().unwrap()), CloseReason::AddressUnavailable);
    open(&mut sockets, 3).unwrap();
    assert_eq!(open(&mut sockets, 3), Err(CloseReason::Failed));
    assert_eq!((sockets.len(), sockets.counters().open_failed), (1, 3));
}

#[test]
fn the_owner_gives_64_and_is_told_what_to_do_about_the_next() {
    let mut sockets = Sockets::bind(std::iter::repeat_n(ANY.parse().unwrap(), SOCKETS_MAX)).unwrap();
    open(&mut sockets, 1).expect("the machine has its own limit");
    let error = sockets.add(bind(ANY)).unwrap_err();
    assert!(error.to_string().contains("remove one"), "{error}");
    sockets.remove(5).unwrap();
    assert_eq!(sockets.add(bind(ANY)).unwrap(), 5);
}

#[test]
fn the_longest_train_is_that_of_the_sockets_that_are_there() {
    let mut sockets = Sockets::bind([ANY.parse().unwrap(); 2]).unwrap();
    let longest = sockets.segments_max();
    assert_eq!(longest, sockets.at(0).unwrap().segments_max());
    sockets.remove(0);
    assert_eq!(sockets.segments_max(), longest);
    sockets.remove(1);
    assert_eq!(sockets.segments_max(), 1);
}
