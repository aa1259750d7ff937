//! `cp`: an archive flows from one process to another, each of which sees one side alone.
//!
//! | from | to | who writes | who reads |
//! |---|---|---|---|
//! | host | container | this process | a visitor (`runtime::visit`) |
//! | container | host | a visitor | this process |
//! | container | container | a visitor | another one; a fork of it where both are one container |
//! | stream | container | this process, which decompresses | a visitor |
//! | container | stream | a visitor | nobody |
//!
//! A path of a container is only ever looked up by a visitor, from a descriptor of the container's root.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::io;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Read;
use std::io::Write;
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Component;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use anyhow::Result;
use anyhow::anyhow;
use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::container::record::Container;
use crate::engine::Engine;
use crate::engine::ids;
use crate::engine::visit::Visit;
use crate::error::Kind;
use crate::error::Told;
use crate::error::fail;
use crate::image::unpack::stream;
use crate::image::unpack::stream::Memory;
use crate::runtime::user;
use crate::runtime::visit::Inside;
use crate::runtime::visit::Visitor;
use crate::store::archive::Writer;
use crate::store::archive::pack;
use crate::store::archive::place;
use crate::store::archive::place::Base;
use crate::store::archive::place::Owner;
use crate::store::archive::place::Passed;
use crate::store::archive::place::Rules;
use crate::sys::path::Reopen;
use crate::sys::process;
use crate::sys::process::Side;

const BUFFER: usize = 256 << 10;

/// Where something is copied from or to.
#[derive(Debug)]
pub enum End {
    Host(PathBuf),
    Container(Box<Container>, PathBuf),
    /// Standard input or output.
    Stream,
}

#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What is copied to a container belongs to its user.
    pub give_to_user: bool,
    /// A source that is a link stands for what it leads to.
    pub follow: bool,
    pub overwrite: bool,
}

/// Copies; returns what was passed over.
///
/// Must: be called by a single-threaded process.
pub fn copy(engine: &Engine, from: &End, to: &End, options: Options) -> Result<Passed> {
    match (from, to) {
        (End::Host(source), End::Container(container, path)) => {
            let visit = Visit::open(engine, container)?;
            from_host(&visit, source, container, path, options)
        }
        (End::Container(container, path), End::Host(target)) => {
            let visit = Visit::open(engine, container)?;
            to_host(&visit, path, target, options)
        }
        (End::Container(one, source), End::Container(other, target)) => {
            let first = Visit::open(engine, one)?;
            if one.config.id == other.config.id {
                return within(&first, one, source, target, options);
            }
            let second = Visit::open(engine, other)?;
            between(&first, source, &second, other, target, options)
        }
        (End::Stream, End::Container(container, path)) => {
            let visit = Visit::open(engine, container)?;
            from_stream(&visit, container, path, options)
        }
        (End::Container(container, path), End::Stream) => {
            let visit = Visit::open(engine, container)?;
            to_stream(&visit, path, options)
        }
        _ => Err(fail(
            Kind::Usage,
            "one of the two must be in a container: expected CONTAINER:PATH",
        )),
    }
}

fn from_host(
    visit: &Visit<'_>,
    source: &Path,
    container: &Container,
    path: &Path,
    options: Options,
) -> Result<Passed> {
    // Before anything is done: the source may be missing.
    let flags = OFlags::PATH | last_link(options, source);
    let top = Base::Host
        .open(source, flags)
        .map_err(|err| missing(source, err))?;
    let name = host_name(source)?;
    let (mut ours, theirs) = UnixStream::pair()?;
    let receive = Receive::new(container, path, name, options);
    let visitor = visit.send(move |inside| receive.run(&inside, theirs))?;
    let reopen = Reopen::new()?;
    write(&mut ours, |writer| {
        pack::tree(
            writer,
            top.as_fd(),
            b".",
            &reopen,
            &pack::Options::exact(false),
        )
    })?;
    ours.shutdown(Shutdown::Write).ok();
    passed(visitor)
}

fn to_host(visit: &Visit<'_>, path: &Path, target: &Path, options: Options) -> Result<Passed> {
    let (ours, theirs) = UnixStream::pair()?;
    let send = Send::new(visit, path, options);
    let visitor = visit.send(move |inside| send.run(&inside, theirs, b"."))?;
    let rules = Rules {
        owner: Owner::Maker,
        overwrite: options.overwrite,
    };
    let name = name_in_container(path);
    let reopen = Reopen::new()?;
    let input = BufReader::with_capacity(BUFFER, &ours);
    let put = place::put(input, &Base::Host, target, name.as_deref(), rules, &reopen);
    // The sender has a copy of our end, being a fork: that alone would not tell it that nobody reads.
    ours.shutdown(Shutdown::Both).ok();
    // What went wrong at the source is why the archive ended too soon.
    visitor.finish()?;
    put
}

fn between(
    first: &Visit<'_>,
    source: &Path,
    second: &Visit<'_>,
    container: &Container,
    target: &Path,
    options: Options,
) -> Result<Passed> {
    let (reads, writes) = UnixStream::pair()?;
    let ours = reads.try_clone()?;
    let send = Send::new(first, source, options);
    let sender = first.send(move |inside| send.run(&inside, writes, b"."))?;
    let receive = Receive::new(container, target, name_in_container(source), options);
    let receiver = second.send(move |inside| receive.run(&inside, reads))?;
    let received = passed(receiver);
    // As above.
    ours.shutdown(Shutdown::Both).ok();
    sender.finish()?;
    received
}

/// Both sides are one container, which only one process can go into where it does not run.
fn within(
    visit: &Visit<'_>,
    container: &Container,
    source: &Path,
    target: &Path,
    options: Options,
) -> Result<Passed> {
    let send = Send::new(visit, source, options);
    let receive = Receive::new(container, target, name_in_container(source), options);
    let visitor = visit.send(move |inside| {
        let (reads, writes) = UnixStream::pair()?;
        let (mut hears, mut tells) = UnixStream::pair()?;
        match process::fork()? {
            Side::Child => {
                drop((reads, hears));
                if let Err(err) = send.run(&inside, writes, b".") {
                    let told = serde_json::to_vec(&Told::of(&err)).unwrap_or_default();
                    tells.write_all(&told).ok();
                }
                process::exit_now(0)
            }
            Side::Parent(child) => {
                drop((writes, tells));
                let received = receive.run(&inside, reads);
                let mut told = Vec::new();
                hears.read_to_end(&mut told)?;
                process::wait(child.pidfd.as_fd())?;
                match serde_json::from_slice::<Told>(&told) {
                    Ok(told) => Err(told.into_error()),
                    Err(_) => received,
                }
            }
        }
    })?;
    passed(visitor)
}

fn from_stream(
    visit: &Visit<'_>,
    container: &Container,
    path: &Path,
    options: Options,
) -> Result<Passed> {
    let (mut ours, theirs) = UnixStream::pair()?;
    let receive = Receive::new(container, path, None, options);
    let visitor = visit.send(move |inside| receive.run_all(&inside, theirs))?;
    let mut input =
        stream::decompressed(io::stdin(), Memory::ARCHIVE).context("cannot read standard input")?;
    match io::copy(&mut input, &mut ours) {
        Err(err) if err.kind() != io::ErrorKind::BrokenPipe => {
            return Err(err).context("cannot read standard input");
        }
        // The reader tells why it wants no more.
        _ => ours.shutdown(Shutdown::Write).ok(),
    };
    passed(visitor)
}

fn to_stream(visit: &Visit<'_>, path: &Path, options: Options) -> Result<Passed> {
    let send = Send::new(visit, path, options);
    let name = match name_in_container(path) {
        Some(name) => name.as_bytes().to_owned(),
        None => b".".to_vec(),
    };
    let visitor = visit.send(move |inside| send.run(&inside, io::stdout(), &name))?;
    visitor.finish()?;
    Ok(Passed::default())
}

fn passed(visitor: Visitor) -> Result<Passed> {
    Ok(serde_json::from_slice(&visitor.finish()?)?)
}

/// The side that gives, in a container.
struct Send {
    path: PathBuf,
    options: Options,
    owners_recorded: bool,
}

impl Send {
    fn new(visit: &Visit<'_>, path: &Path, options: Options) -> Send {
        Send {
            path: path.to_owned(),
            options,
            owners_recorded: visit.owners_recorded(),
        }
    }

    fn run(&self, inside: &Inside, out: impl Write, name: &[u8]) -> Result<Vec<u8>> {
        let base = Base::Root(inside.root.try_clone()?);
        let flags = OFlags::PATH | last_link(self.options, &self.path);
        let top = base
            .open(&self.path, flags)
            .map_err(|err| missing(&self.path, err))?;
        write(out, |writer| {
            let options = pack::Options::exact(self.owners_recorded);
            pack::tree(writer, top.as_fd(), name, &inside.reopen, &options)
        })?;
        Ok(vec![])
    }
}

/// The side that takes, in a container.
struct Receive<'a> {
    container: &'a Container,
    path: PathBuf,
    name: Option<OsString>,
    options: Options,
}

impl<'a> Receive<'a> {
    fn new(
        container: &'a Container,
        path: &Path,
        name: Option<OsString>,
        options: Options,
    ) -> Receive<'a> {
        Receive {
            container,
            path: path.to_owned(),
            name,
            options,
        }
    }

    fn rules(&self, inside: &Inside) -> Result<Rules> {
        let owner = if self.options.give_to_user {
            let wanted = ids::wanted(&self.container.config.identity);
            let user = user::find(inside.root.as_fd(), wanted)?;
            Owner::Given {
                uid: user.uid,
                gid: user.gid,
            }
        } else {
            Owner::Kept
        };
        Ok(Rules {
            owner,
            overwrite: self.options.overwrite,
        })
    }

    fn run(&self, inside: &Inside, input: impl Read) -> Result<Vec<u8>> {
        let (rules, base) = (self.rules(inside)?, Base::Root(inside.root.try_clone()?));
        let input = BufReader::with_capacity(BUFFER, input);
        let name = self.name.as_deref();
        let passed = place::put(input, &base, &self.path, name, rules, &inside.reopen)?;
        Ok(serde_json::to_vec(&passed)?)
    }

    fn run_all(&self, inside: &Inside, input: impl Read) -> Result<Vec<u8>> {
        let (rules, base) = (self.rules(inside)?, Base::Root(inside.root.try_clone()?));
        let input = BufReader::with_capacity(BUFFER, input);
        let passed = place::put_all(input, &base, &self.path, rules, &inside.reopen)?;
        Ok(serde_json::to_vec(&passed)?)
    }
}

/// Writes an archive to its end. A reader that has gone is no error: it tells itself why.
pub fn write<W: Write>(
    out: W,
    fill: impl FnOnce(&mut Writer<BufWriter<W>>) -> Result<()>,
) -> Result<()> {
    let mut writer = Writer::new(BufWriter::with_capacity(BUFFER, out));
    let written = fill(&mut writer).and_then(|()| Ok(writer.finish()?));
    match written {
        Err(err) if is_broken_pipe(&err) => Ok(()),
        written => written,
    }
}

fn is_broken_pipe(err: &anyhow::Error) -> bool {
    err.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|err| err.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn missing(path: &Path, errno: Errno) -> anyhow::Error {
    let kind = (errno == Errno::NOENT).then_some(Kind::NotFound);
    let text = format!(
        "cannot open \"{}\": {}",
        path.display(),
        io::Error::from(errno)
    );
    kind.map_or_else(|| anyhow!(text.clone()), |kind| fail(kind, text.clone()))
}

/// Whether a link in the last place of a source is followed. With a slash after it, it is.
fn last_link(options: Options, path: &Path) -> OFlags {
    if options.follow || path.as_os_str().as_bytes().ends_with(b"/") {
        OFlags::empty()
    } else {
        OFlags::NOFOLLOW
    }
}

/// What a source is called where it is put into a directory; none for the contents of a directory.
fn host_name(path: &Path) -> Result<Option<OsString>> {
    if means_contents(path) {
        return Ok(None);
    }
    if let Some(name) = path.file_name() {
        return Ok(Some(name.to_owned()));
    }
    // It ends in `..`.
    let full = path
        .canonicalize()
        .with_context(|| format!("cannot open \"{}\"", path.display()))?;
    Ok(full.file_name().map(OsStr::to_owned))
}

/// The same of a path in a container, by its words alone.
fn name_in_container(path: &Path) -> Option<OsString> {
    if means_contents(path) {
        return None;
    }
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::ParentDir => drop(names.pop()),
            _ => {}
        }
    }
    names.last().map(|name| (*name).to_owned())
}

fn means_contents(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes == b"." || bytes.ends_with(b"/.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_a_name_unless_its_contents_are_meant() {
        for (path, name) in [
            ("/etc/hosts", Some("hosts")),
            ("etc/", Some("etc")),
            ("/etc/.", None),
            (".", None),
            ("/", None),
            ("", None),
            ("/a/b/..", Some("a")),
            ("/a/..", None),
            ("/../x", Some("x")),
        ] {
            let found = name_in_container(Path::new(path));
            assert_eq!(found.as_deref(), name.map(OsStr::new), "{path}");
        }
        assert_eq!(host_name(Path::new("a/b")).unwrap().unwrap(), "b");
        assert_eq!(host_name(Path::new("a/.")).unwrap(), None);
        assert_eq!(host_name(Path::new("/usr/..")).unwrap(), None);
    }
}
