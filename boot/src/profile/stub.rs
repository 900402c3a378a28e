//! QEMU's gdb stub: stops a machine, reads its registers and memory, lets it go on. The protocol: gdb's manual, "Remote Protocol".

use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::symbols::IMAGE_BASE;

/// A chain is followed so far; what called that is not known.
pub(super) const MOST_FRAMES: usize = 256;
/// Places in the stub's list of registers, of 8 bytes each.
const RBP: usize = 6;
const RIP: usize = 16;
const PAGE: u64 = 4096;
/// Bytes for one request: the answer, two digits a byte, must fit into the stub's 4096.
const MOST_BYTES: u64 = 1024;

/// A connection to a machine; it stands still unless it is told to go on.
pub(crate) struct Stub {
    stream: BufReader<UnixStream>,
    /// Memory as it was last read, and its address: frames lie near each other.
    memory: (u64, Vec<u8>),
}

impl Stub {
    /// Connects, which stops the machine.
    pub(crate) fn connect(socket: &Path) -> io::Result<Stub> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Stub { stream: BufReader::new(stream), memory: (0, Vec::new()) })
    }

    pub(crate) fn go_on(&mut self) -> io::Result<()> {
        self.memory.1.clear();
        self.send("c")
    }

    pub(super) fn stop(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(&[0x03])?;
        self.wait()
    }

    /// Until the machine stands still.
    fn wait(&mut self) -> io::Result<()> {
        while !self.receive()?.starts_with('T') {}
        Ok(())
    }

    /// Lets the machine run until its next instruction is the one at this address, which nobody need have written yet.
    pub(crate) fn run_to(&mut self, address: u64) -> io::Result<()> {
        self.demand(&format!("Z1,{address:x},1"))?;
        self.go_on()?;
        self.wait()?;
        self.demand(&format!("z1,{address:x},1"))
    }

    /// Writes to memory; what was there before.
    pub(crate) fn replace<const N: usize>(&mut self, address: u64, new: [u8; N]) -> io::Result<[u8; N]> {
        let old = bytes(&self.ask(&format!("m{address:x},{N:x}"))?);
        let digits: String = new.iter().map(|byte| format!("{byte:02x}")).collect();
        self.demand(&format!("M{address:x},{N:x}:{digits}"))?;
        old.try_into().map_err(|_| io::Error::other(format!("there is no memory at {address:#x}")))
    }

    /// Where the CPU stands, then the addresses of the calls that led there, innermost first, as far as they are the kernel's.
    pub(super) fn chain(&mut self, cpu: u8) -> io::Result<Vec<u64>> {
        self.ask(&format!("Hg{:x}", cpu + 1))?;
        let registers = bytes(&self.ask("g")?);
        let (Some(rip), Some(mut rbp)) = (word(&registers, RIP * 8), word(&registers, RBP * 8)) else {
            return Err(io::Error::other("the stub does not give the registers"));
        };
        let mut chain = Vec::new();
        let mut address = rip;
        while address >= IMAGE_BASE && chain.len() < MOST_FRAMES {
            chain.push(address);
            let (Some(caller), Some(back)) = (self.read(rbp)?, self.read(rbp.wrapping_add(8))?) else { break };
            // A call that never returns may be its function's last instruction: look the call up, not what follows it.
            address = back.saturating_sub(1);
            rbp = caller;
        }
        Ok(chain)
    }

    /// A word of memory, if there is memory.
    fn read(&mut self, address: u64) -> io::Result<Option<u64>> {
        let at = |memory: &(u64, Vec<u8>)| word(&memory.1, address.checked_sub(memory.0)? as usize);
        if at(&self.memory).is_none() {
            let count = (PAGE - address % PAGE).min(MOST_BYTES);
            self.memory = (address, bytes(&self.ask(&format!("m{address:x},{count:x}"))?));
        }
        Ok(at(&self.memory))
    }

    /// The answer to a request. Stops that nobody waits for are skipped: connecting was one.
    fn ask(&mut self, request: &str) -> io::Result<String> {
        self.send(request)?;
        loop {
            let answer = self.receive()?;
            if !answer.starts_with('T') {
                return Ok(answer);
            }
        }
    }

    fn demand(&mut self, request: &str) -> io::Result<()> {
        match &*self.ask(request)? {
            "OK" => Ok(()),
            answer => Err(io::Error::other(format!("the stub answers {answer:?} to {request}"))),
        }
    }

    fn send(&mut self, packet: &str) -> io::Result<()> {
        let sum = packet.bytes().fold(0, u8::wrapping_add);
        write!(self.stream.get_mut(), "${packet}#{sum:02x}")
    }

    fn receive(&mut self) -> io::Result<String> {
        let mut packet = Vec::new();
        self.stream.skip_until(b'$')?;
        self.stream.read_until(b'#', &mut packet)?;
        if packet.pop() != Some(b'#') || packet.starts_with(b"W") {
            return Err(io::ErrorKind::UnexpectedEof.into()); // the machine has ended
        }
        self.stream.read_exact(&mut [0; 2])?;
        self.stream.get_mut().write_all(b"+")?;
        String::from_utf8(packet).map_err(io::Error::other)
    }
}

/// The bytes of an answer in hexadecimal; none of an error (`E14`) or of registers that are not known (`xx`).
fn bytes(answer: &str) -> Vec<u8> {
    let (pairs, _) = answer.as_bytes().as_chunks::<2>();
    pairs.iter().map_while(|pair| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
