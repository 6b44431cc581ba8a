//! What a client does when the server says no; case 56.

use super::*;

#[test]
fn case_56_a_mismatch_on_any_request_brings_everything_back_and_only_once() {
    for method in [Method::REFRESH, Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        let mut play = allocated(ClientConfig { keepalive: None, ..ClientConfig::default() });
        run(&mut play, |client, now| assert!(client.bind_channel(now, peer(9)).is_ok()));
        let (permission, channel) = (said(&mut play), said(&mut play));
        play.hears(path(), &success(&permission)).hears(path(), &success(&channel));
        play.tells(|event| matches!(event, ClientEvent::PermissionInstalled { .. }));
        play.tells(|event| matches!(event, ClientEvent::ChannelBound { .. }));
        play.at(secs(240));
        let mut lost = said(&mut play);
        assert_eq!(Message::parse(&lost).unwrap().method(), Method::CREATE_PERMISSION);
        if method != Method::CREATE_PERMISSION {
            play.hears(path(), &success(&lost)).at(secs(480));
            let permission = said(&mut play);
            play.hears(path(), &success(&permission)).at(secs(540));
            let (refresh, channel) = (said(&mut play), said(&mut play));
            lost = if method == Method::REFRESH { refresh } else { channel };
        }
        assert_eq!(Message::parse(&lost).unwrap().method(), method);
        play.hears(path(), &refusal(&lost, 437)).tells(|event| *event == ClientEvent::Expired);
        assert_eq!(state(&play), AllocationState::Allocating);
        let again = said(&mut play);
        // The other requests that were under way are forgotten: no second recovery.
        play.ignores(path(), &refusal(&lost, 437));
        play.hears(path(), &grant(&again, 600));
        play.tells(|event| matches!(event, ClientEvent::Allocated(_)));
        let (permission, channel) = (said(&mut play), said(&mut play));
        let message = Message::parse(&channel).unwrap();
        assert_eq!(Message::parse(&permission).unwrap().method(), Method::CREATE_PERMISSION);
        assert_eq!((message.channel_number(), message.xor_peer_address()), (Some(0x4000), Some(peer(9))));
        play.quiet();
    }
}

/// A Refresh, and the CreatePermission and ChannelBind before it, all three signed with a fresh nonce: the
/// first two were answered with 438 and then with 400, as coturn answers on a flow that it does not know.
fn moved(play: &mut Play) -> Vec<u8> {
    run(play, |client, now| assert!(client.bind_channel(now, peer(9)).is_ok()));
    let stale = [said(play), said(play)];
    for request in &stale {
        play.hears(path(), &challenge(request, 438, b"new"));
    }
    let again = [said(play), said(play)];
    for (stale, again) in stale.iter().zip(&again) {
        let (stale, again) = (Message::parse(stale).unwrap(), Message::parse(again).unwrap());
        assert_eq!((stale.method(), again.nonce()), (again.method(), Some(&b"new"[..])));
    }
    for request in &again {
        let unsigned =
            answer_with(request, Class::Error, None, |writer| writer.error_code(400, "Bad Request"));
        play.hears(path(), &unsigned);
    }
    let refresh = said(play);
    assert_eq!(Message::parse(&refresh).unwrap().method(), Method::REFRESH);
    // One question for both of them.
    play.quiet();
    refresh
}

#[test]
fn a_server_that_says_400_where_437_belongs_is_found_out_and_everything_comes_back() {
    let mut play = allocated(quiet());
    let refresh = moved(&mut play);
    play.hears(path(), &refusal(&refresh, 437)).tells(|event| *event == ClientEvent::Expired);
    let again = said(&mut play);
    play.hears(path(), &grant(&again, 600)).tells(|event| matches!(event, ClientEvent::Allocated(_)));
    let (permission, channel) = (said(&mut play), said(&mut play));
    play.hears(path(), &success(&permission)).hears(path(), &success(&channel));
    play.tells(|event| *event == ClientEvent::PermissionInstalled { peer: peer(9).ip() });
    play.tells(|event| *event == ClientEvent::ChannelBound { peer: peer(9), number: 0x4000 }).quiet();
}

#[test]
fn a_server_that_means_its_400_is_believed_the_second_time() {
    let mut play = allocated(quiet());
    let refresh = moved(&mut play);
    play.hears(path(), &prolong(&refresh, 600));
    let (permission, channel) = (said(&mut play), said(&mut play));
    assert_eq!(Message::parse(&channel).unwrap().channel_number(), Some(0x4000));
    play.hears(path(), &refusal(&permission, 400)).hears(path(), &refusal(&channel, 400));
    play.tells(|event| *event == ClientEvent::PermissionRefused { peer: peer(9).ip(), code: 400 });
    play.tells(|event| *event == ClientEvent::ChannelRefused { peer: peer(9), code: 400 }).quiet();
    assert_eq!(state(&play), AllocationState::Allocated);
}

#[test]
fn a_strange_allocation_in_the_way_is_ended_twice_and_then_it_is_final() {
    let (mut play, mut request) = challenged(quiet(), Families::V4);
    for answer in [None, Some(437)] {
        play.hears(path(), &refusal(&request, 437));
        let clear = said(&mut play);
        let message = Message::parse(&clear).unwrap();
        assert_eq!((message.method(), message.lifetime()), (Method::REFRESH, Some(Duration::ZERO)));
        play.hears(path(), &answer.map_or_else(|| prolong(&clear, 0), |code| refusal(&clear, code)));
        request = said(&mut play);
        assert_eq!(Message::parse(&request).unwrap().method(), Method::ALLOCATE);
    }
    play.hears(path(), &refusal(&request, 437)).tells(failed(Failure::Refused { code: 437 })).quiet();
}

#[test]
fn somebody_elses_allocation_in_the_way_is_final() {
    let (mut play, request) = challenged(quiet(), Families::V4);
    play.hears(path(), &refusal(&request, 437));
    let clear = said(&mut play);
    play.hears(path(), &refusal(&clear, 441)).tells(failed(Failure::Refused { code: 441 })).quiet();
}

#[test]
fn a_full_server_is_asked_three_times_with_growing_patience() {
    for code in [error_code::ALLOCATION_QUOTA_REACHED, error_code::INSUFFICIENT_CAPACITY] {
        let (mut play, mut request) = challenged(quiet(), Families::V4);
        let mut at = 0;
        for wait in [2, 4] {
            play.hears(path(), &refusal(&request, code)).quiet();
            assert_eq!(state(&play), AllocationState::Waiting);
            play.at(secs(at + wait - 1)).quiet().at(secs(at + wait));
            at += wait;
            request = said(&mut play);
        }
        play.hears(path(), &refusal(&request, code)).tells(failed(Failure::Refused { code })).quiet();
    }
}

#[test]
fn refusals_that_waiting_does_not_help_are_final() {
    for code in [400, 403, 420, 440, 442, 500] {
        let (mut play, request) = challenged(quiet(), Families::V4);
        play.hears(path(), &refusal(&request, code)).tells(failed(Failure::Refused { code })).quiet();
    }
}

#[test]
fn a_family_that_the_server_does_not_have_is_dropped() {
    let (mut play, request) = challenged(quiet(), Families::Both);
    play.hears(path(), &refusal(&request, 440));
    let again = said(&mut play);
    assert_eq!(Message::parse(&again).unwrap().additional_address_family(), None);
    play.hears(path(), &refusal(&again, 440)).tells(failed(Failure::Refused { code: 440 }));
}

#[test]
fn an_answer_that_needs_more_understanding_or_lacks_an_address_is_a_failure() {
    let (mut play, request) = challenged(quiet(), Families::V4);
    let strange = answer_with(&request, Class::Success, Some(&key()), |writer| {
        writer.xor_relayed_address(relayed()).xor_mapped_address(peer(1)).attribute(0x7fff, b"")
    });
    play.hears(path(), &strange).tells(failed(Failure::UnknownAttribute { kind: 0x7fff })).quiet();

    for class in [Class::Success, Class::Error] {
        let (mut play, request) = challenged(quiet(), Families::V4);
        let empty = answer_with(&request, class, Some(&key()), |writer| writer);
        play.hears(path(), &empty).tells(failed(Failure::Incomplete)).quiet();
    }
}

#[test]
fn a_refresh_that_the_server_cannot_handle_just_then_is_tried_again() {
    let mut play = allocated(quiet());
    play.at(secs(540));
    let refresh = said(&mut play);
    play.hears(path(), &refusal(&refresh, 500)).quiet().at(secs(549)).quiet().at(secs(550));
    assert_eq!(Message::parse(&said(&mut play)).unwrap().method(), Method::REFRESH);
}

#[test]
fn one_peer_that_the_server_does_not_like_does_not_take_the_others_with_it() {
    let mut play = allocated(quiet());
    let (good, bad) = (peer(1).ip(), "10.0.0.1".parse().unwrap());
    run(&mut play, |client, now| {
        client.permit(now, good).unwrap();
        client.permit(now, bad).unwrap();
    });
    let both = said(&mut play);
    assert_eq!(Message::parse(&both).unwrap().xor_peer_addresses().count(), 2);
    play.hears(path(), &refusal(&both, 403));
    let (first, second) = (said(&mut play), said(&mut play));
    play.hears(path(), &success(&first)).hears(path(), &refusal(&second, 403));
    play.tells(|event| *event == ClientEvent::PermissionInstalled { peer: good });
    play.tells(|event| *event == ClientEvent::PermissionRefused { peer: bad, code: 403 }).quiet();
    let client = play.machine().inner();
    assert_eq!((client.is_permitted(START, good), client.is_permitted(START, bad)), (true, false));
}

#[test]
fn a_channel_that_is_refused_leaves_its_number_alone_and_the_permission_in_place() {
    let mut play = allocated(quiet());
    run(&mut play, |client, now| assert_eq!(client.bind_channel(now, peer(9)), Ok(0x4000)));
    let (permission, channel) = (said(&mut play), said(&mut play));
    play.hears(path(), &success(&permission)).hears(path(), &refusal(&channel, 508));
    play.tells(|event| matches!(event, ClientEvent::PermissionInstalled { .. }));
    play.tells(|event| *event == ClientEvent::ChannelRefused { peer: peer(9), code: 508 }).quiet();
    run(&mut play, |client, now| {
        assert!(client.is_permitted(now, peer(9).ip()) && client.channel(now, peer(9)).is_none());
        assert_eq!(client.bind_channel(now, peer(10)), Ok(0x4001), "0x4000 may be bound at the server");
    });
}
