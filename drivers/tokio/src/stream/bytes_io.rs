//! Streams as tokio's byte readers and writers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{ReceiveHalf, SendHalf, Stream, write};
use crate::driven::DrivenSession;
use crate::error::Error;
use crate::when::Moment;

impl<M: DrivenSession> AsyncRead for ReceiveHalf<M> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { lifeline, place, inbox: _ } = self.get_mut();
        let (id, max) = (lifeline.id, buf.remaining());
        if max == 0 {
            return Poll::Ready(Ok(()));
        }
        let shared = lifeline.handle.shared();
        let read = ready!(
            place.poll_verb(shared, cx, Moment::Rough, |machine, now| machine.read(now, id, max).transpose())
        );
        let chunk = read.map_err(Error::from).and_then(|chunk| chunk.map_err(Error::Session))?;
        buf.put_slice(&chunk);
        Poll::Ready(Ok(()))
    }
}

impl<M: DrivenSession> AsyncWrite for SendHalf<M> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { lifeline, finished: _, place } = self.get_mut();
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (id, shared) = (lifeline.id, lifeline.handle.shared());
        let taken =
            ready!(place.poll_verb(shared, cx, Moment::Rough, |machine, now| write(machine, now, id, bytes)));
        Poll::Ready(Ok(taken.map_err(Error::from).and_then(|taken| taken.map_err(Error::Session))?))
    }

    /// Ready at once: the driver sends as soon as it may.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Finishes our half, without waiting for the peer's acknowledgement.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let ended = self.get_mut().end().map_err(Error::from);
        Poll::Ready(Ok(ended.and_then(|ended| ended.map_err(Error::Session))?))
    }
}

impl<M: DrivenSession> AsyncRead for Stream<M> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().receiver).poll_read(cx, buf)
    }
}

impl<M: DrivenSession> AsyncWrite for Stream<M> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().sender).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().sender).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().sender).poll_shutdown(cx)
    }
}
