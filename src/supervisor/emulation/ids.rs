//! The ids of one process as the kernel would keep them (credentials(7)), and what the calls that change them do.

use std::rc::Rc;

use rustix::io::Errno;

/// What stands for "leave it" in calls with several ids.
pub const KEEP: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub real: u32,
    pub effective: u32,
    pub saved: u32,
    pub file_system: u32,
}

impl Ids {
    fn has(self, id: u32) -> bool {
        [self.real, self.effective, self.saved].contains(&id)
    }

    /// setuid(2), setgid(2); `able`: with the capability.
    pub fn set(self, id: u32, able: bool) -> Result<Ids, Errno> {
        if id == KEEP {
            return Err(Errno::INVAL);
        }
        if able {
            return Ok(Ids {
                real: id,
                effective: id,
                saved: id,
                file_system: id,
            });
        }
        if id != self.real && id != self.saved {
            return Err(Errno::PERM);
        }
        Ok(Ids {
            effective: id,
            file_system: id,
            ..self
        })
    }

    /// setreuid(2), setregid(2).
    pub fn set_real_effective(self, real: u32, effective: u32, able: bool) -> Result<Ids, Errno> {
        let mut new = self;
        if real != KEEP {
            if !able && real != self.real && real != self.effective {
                return Err(Errno::PERM);
            }
            new.real = real;
        }
        if effective != KEEP {
            if !able && !self.has(effective) {
                return Err(Errno::PERM);
            }
            new.effective = effective;
        }
        if real != KEEP || (effective != KEEP && effective != self.real) {
            new.saved = new.effective;
        }
        new.file_system = new.effective;
        Ok(new)
    }

    /// setresuid(2), setresgid(2).
    pub fn set_all(self, ids: [u32; 3], able: bool) -> Result<Ids, Errno> {
        if !able && ids.iter().any(|id| *id != KEEP && !self.has(*id)) {
            return Err(Errno::PERM);
        }
        let [real, effective, saved] = ids;
        let or = |new, old| if new == KEEP { old } else { new };
        let effective = or(effective, self.effective);
        Ok(Ids {
            real: or(real, self.real),
            effective,
            saved: or(saved, self.saved),
            file_system: effective,
        })
    }

    /// setfsuid(2), setfsgid(2), which never fail.
    pub fn set_file_system(self, id: u32, able: bool) -> Ids {
        if id != KEEP && (able || self.has(id)) {
            return Ids {
                file_system: id,
                ..self
            };
        }
        self
    }
}

/// What becomes of the capabilities of a process that stops being root (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Capabilities {
    /// PR_SET_KEEPCAPS: they stay permitted at the next change.
    keep: bool,
    /// They have stayed at one, and count as raised again (capset(2)).
    kept: bool,
    lost: bool,
}

/// All ids of a process. The default is that of a container's root, which the kernel knows too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub user: Ids,
    pub group: Ids,
    /// `None`: those that the kernel has.
    pub groups: Option<Rc<[u32]>>,
    capabilities: Capabilities,
}

impl Credentials {
    pub fn is_default(&self) -> bool {
        *self == Credentials::default()
    }

    /// With CAP_SETUID and CAP_SETGID, as far as they are root's.
    pub fn may_change_ids(&self) -> bool {
        let Capabilities { kept, lost, .. } = self.capabilities;
        !lost && (kept || self.user.effective == 0)
    }

    /// With CAP_CHOWN and CAP_MKNOD.
    pub fn may_change_files(&self) -> bool {
        let Capabilities { kept, lost, .. } = self.capabilities;
        !lost && (kept || self.user.file_system == 0)
    }

    pub fn keep_capabilities(&self, keep: bool) -> Credentials {
        let mut new = self.clone();
        new.capabilities.keep = keep;
        new
    }

    pub fn become_group(&self, group: Ids) -> Credentials {
        let mut new = self.clone();
        new.group = group;
        new
    }

    pub fn take_groups(&self, groups: Rc<[u32]>) -> Credentials {
        let mut new = self.clone();
        new.groups = Some(groups);
        new
    }

    pub fn become_user(&self, user: Ids) -> Credentials {
        let mut new = self.clone();
        new.user = user;
        if self.user.has(0) && !user.has(0) {
            let capabilities = &mut new.capabilities;
            capabilities.kept = capabilities.keep && !capabilities.lost;
            capabilities.lost = !capabilities.kept;
        }
        new
    }

    /// execve(2) of a program without set-user-ID.
    pub fn execute(&self) -> Credentials {
        let mut new = self.clone();
        for ids in [&mut new.user, &mut new.group] {
            ids.saved = ids.effective;
            ids.file_system = ids.effective;
        }
        let is_root = new.user.real == 0 || new.user.effective == 0;
        new.capabilities = Capabilities {
            keep: false,
            kept: false,
            lost: !is_root,
        };
        new
    }

    /// Whether a file of these ids could be given this owner by its own: chown(2) without capabilities.
    pub fn may_give(&self, user: u32, group: u32) -> bool {
        let in_groups = || {
            self.groups
                .as_ref()
                .is_some_and(|groups| groups.contains(&group))
        };
        [KEEP, self.user.file_system].contains(&user)
            && ([KEEP, self.group.file_system, self.group.effective].contains(&group)
                || in_groups())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(real: u32, effective: u32, saved: u32) -> Ids {
        Ids {
            real,
            effective,
            saved,
            file_system: effective,
        }
    }

    const ROOT: Ids = Ids {
        real: 0,
        effective: 0,
        saved: 0,
        file_system: 0,
    };

    #[test]
    fn who_has_become_another_for_good_does_not_come_back() {
        let other = ROOT.set(100, true).unwrap();
        assert_eq!(other, ids(100, 100, 100));
        assert_eq!(other.set(0, false), Err(Errno::PERM));
        assert_eq!(other.set_all([KEEP, 0, KEEP], false), Err(Errno::PERM));
        assert_eq!(other.set_real_effective(KEEP, 0, false), Err(Errno::PERM));
        assert_eq!(other.set(100, false), Ok(other));
        assert_eq!(ROOT.set(KEEP, true), Err(Errno::INVAL));
    }

    #[test]
    fn who_keeps_a_saved_id_comes_back() {
        let away = ROOT.set_all([KEEP, 100, KEEP], true).unwrap();
        assert_eq!(away, ids(0, 100, 0));
        assert_eq!(away.set(0, false), Ok(ROOT));
        assert_eq!(away.set_all([100, 100, 100], false), Ok(ids(100, 100, 100)));
        assert_eq!(away.set(7, false), Err(Errno::PERM));
    }

    /// setreuid(2): the saved id follows if the real one is set, or the effective one to another than the real one.
    #[test]
    fn the_saved_id_follows() {
        assert_eq!(ROOT.set_real_effective(KEEP, 5, true), Ok(ids(0, 5, 5)));
        assert_eq!(ROOT.set_real_effective(5, KEEP, true), Ok(ids(5, 0, 0)));
        assert_eq!(ROOT.set_real_effective(KEEP, 0, true), Ok(ROOT));
        let swapped = ids(5, 0, 0).set_real_effective(0, 5, false);
        assert_eq!(swapped, Ok(ids(0, 5, 5)));
        // The saved id may become effective, not real.
        assert_eq!(
            ids(1, 2, 3).set_real_effective(KEEP, 3, false),
            Ok(ids(1, 3, 3))
        );
        assert_eq!(
            ids(1, 2, 3).set_real_effective(3, KEEP, false),
            Err(Errno::PERM)
        );
    }

    #[test]
    fn ids_of_the_file_system_are_set_alone_and_silently() {
        let new = ROOT.set_file_system(9, true);
        assert_eq!((new.effective, new.file_system), (0, 9));
        assert_eq!(ids(1, 1, 1).set_file_system(9, false), ids(1, 1, 1));
        // And follow the effective one again.
        assert_eq!(new.set_all([KEEP, 3, KEEP], true).unwrap().file_system, 3);
    }

    #[test]
    fn capabilities_are_lost_with_the_last_id_of_root() {
        let root = Credentials::default();
        let away = root.become_user(ids(0, 100, 0));
        assert!(!away.may_change_ids());
        assert!(away.become_user(ROOT).may_change_ids());
        let other = root.become_user(ids(100, 100, 100));
        assert!(!other.may_change_ids() && !other.may_change_files());
        // Without capabilities nobody becomes root; where an id says so they are gone all the same.
        assert!(!other.become_user(ROOT).may_change_ids());
    }

    #[test]
    fn capabilities_are_kept_until_the_next_program() {
        let keeping = Credentials::default().keep_capabilities(true);
        let other = keeping.become_user(ids(100, 100, 100));
        assert!(other.may_change_ids() && other.may_change_files());
        assert!(!other.execute().may_change_ids());
        assert!(!keeping.execute().become_user(ids(1, 1, 1)).may_change_ids());
        let away = Credentials::default().become_user(ids(0, 100, 0)).execute();
        assert_eq!(away.user, ids(0, 100, 100));
        assert!(away.become_user(ROOT).may_change_ids());
    }

    #[test]
    fn a_file_is_given_away_within_the_own_ids_alone() {
        let user = Credentials::default()
            .become_user(ids(100, 100, 100))
            .become_group(ids(100, 100, 100))
            .take_groups([4].into());
        assert!(user.may_give(100, KEEP) && user.may_give(KEEP, 4) && user.may_give(KEEP, 100));
        assert!(!user.may_give(0, KEEP) && !user.may_give(KEEP, 0) && !user.may_give(100, 5));
    }
}
