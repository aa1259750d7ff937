//! Many containers: made and run at once, and lying beside the one that a command is about.
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::inotify;

use crate::support::Rbox;

#[test]
fn a_hundred_at_once() {
    let rbox = Rbox::with_busybox();
    let all: Vec<_> = (0..100)
        .map(|number| {
            let text = format!("{number}");
            let call = rbox.args(["run", "--rm", "busybox", "echo", &text]);
            call.stdout(text + "\n").spawn()
        })
        .collect();
    for one in all {
        one.wait();
    }
}

/// Hears of every file and directory that is opened in those directories.
struct Watch(OwnedFd);

impl Watch {
    fn over(dirs: &[&Path]) -> Watch {
        let flags = inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC;
        let watch = Watch(inotify::init(flags).unwrap());
        for dir in dirs {
            inotify::add_watch(&watch.0, *dir, inotify::WatchFlags::OPEN).unwrap();
        }
        watch
    }

    /// How often the directories themselves were opened since the last call.
    fn listings(&self) -> usize {
        self.events(|event| event.file_name().is_none())
    }

    /// How often anything was opened.
    fn count(&self) -> usize {
        self.events(|_| true)
    }

    fn events(&self, wanted: impl Fn(&inotify::Event<'_>) -> bool) -> usize {
        let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
        let mut reader = inotify::Reader::new(&self.0, &mut buffer);
        let mut count = 0;
        while let Ok(event) = reader.next() {
            count += usize::from(wanted(&event));
        }
        count
    }
}

/// What is done with one container takes no longer for those beside it: nothing of them is read, nor are
/// they listed, but where an id is to be found.
#[test]
fn others_are_not_looked_at() {
    let rbox = Rbox::with_busybox();
    let others = ["one", "two", "six"].map(|name| {
        rbox.args(["create", "--name", name, "-v", "/anonymous", "busybox"])
            .stdout("[ID]\n")
            .run()
            .stdout
    });
    let create = || {
        let id = rbox
            .args([
                "create",
                "--name",
                "mine",
                "-v",
                "/anonymous",
                "busybox",
                "sleep",
                "1000",
            ])
            .stdout("[ID]\n")
            .run();
        id.stdout.trim().to_owned()
    };
    let containers = rbox.data().join("containers");
    let dirs = others.map(|id| containers.join(id.trim()));
    let watch = Watch::over(&[&dirs[0], &dirs[1], &dirs[2]]);
    let names = rbox.data().join("names");
    let listings = Watch::over(&[&containers, &names]);
    for by_id in [false, true] {
        let id = create();
        let name = if by_id { &id[..12] } else { "mine" };
        assert_eq!(watch.count(), 0, "create");
        listings.listings();
        for line in [
            "start NAME",
            "exec NAME true",
            "inspect NAME",
            "update --env A=B NAME",
            "stop -t 0 NAME",
            "restart -t 0 NAME",
            "logs NAME",
            "kill NAME",
            "wait NAME",
            "cp NAME:/etc/passwd -",
            "rm -v NAME",
        ] {
            let line = line.replace("NAME", name);
            rbox.args(line.split(' ')).stdout_any().run();
            assert_eq!(watch.count(), 0, "{line}");
            let listed = listings.listings();
            assert!(listed <= usize::from(by_id), "{line}: {listed} listings");
        }
    }
    // One that goes by itself, with its volume.
    rbox.args(["run", "--rm", "-v", "/anonymous", "busybox", "true"])
        .run();
    assert_eq!(watch.count(), 0, "run --rm");
    rbox.remove(&["one", "two", "six"]);
}

/// Where an anonymous volume has been given to another container, their records are asked.
#[test]
fn a_volume_of_two_goes_with_the_second() {
    let rbox = Rbox::with_busybox();
    rbox.args(["create", "--name", "one", "-v", "/anonymous", "busybox"])
        .stdout("[ID]\n")
        .run();
    rbox.args([
        "create",
        "--name",
        "two",
        "--volumes-from",
        "one",
        "busybox",
    ])
    .stdout("[ID]\n")
    .run();
    let volume = rbox.args(["volume", "ls", "-q"]).stdout_any().run().stdout;
    let mount = format!("{}:/v", volume.trim());
    rbox.args(["create", "--name", "three", "-v", &mount, "busybox"])
        .stdout("[ID]\n")
        .run();
    for name in ["one", "three"] {
        rbox.args(["rm", "-v", name])
            .stdout(format!("{name}\n"))
            .run();
        rbox.args(["volume", "ls", "-q"]).stdout("[ID]\n").run();
    }
    rbox.args(["rm", "-v", "two"]).stdout("two\n").run();
    rbox.args(["volume", "ls", "-q"]).run();
}
