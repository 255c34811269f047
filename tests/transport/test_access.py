"""Who may do what."""

from __future__ import annotations

import grp
import os
import pwd

from fusiond.transport.access import Access, AccessRules, Throttle, user_name

STRANGER = 61_234  # no user of this machine
GROUP = 61_235


def test_root_and_its_own_user_operate_any_daemon() -> None:
    access = Access(AccessRules())
    assert access.role(0, 0) == "operate"
    assert access.role(os.geteuid(), 12345) == "operate"


def test_nobody_else_is_let_into_a_daemon_that_is_not_shared() -> None:
    assert Access(AccessRules()).role(STRANGER, os.getegid()) is None


def test_whoever_is_of_the_group_uses_a_shared_daemon() -> None:
    access = Access(AccessRules(GROUP))
    assert access.role(STRANGER, GROUP) == "use"
    assert access.role(STRANGER, GROUP + 1) is None


def test_whoever_is_of_the_group_of_operators_operates_it() -> None:
    operators = grp.getgrall()[0]
    access = Access(AccessRules(GROUP, operators.gr_name))
    assert access.role(STRANGER, operators.gr_gid) == "operate"


def test_a_group_of_operators_that_there_is_not_has_no_members() -> None:
    assert Access(AccessRules(GROUP, "no-such-group")).role(STRANGER, GROUP) == "use"
    assert Access(AccessRules(GROUP, "")).role(STRANGER, GROUP) == "use"


def test_membership_counts_also_where_it_is_not_the_group_of_the_process() -> None:
    user = next(user for user in pwd.getpwall() if user.pw_uid not in (0, os.geteuid()))
    assert Access(AccessRules(user.pw_gid)).role(user.pw_uid, GROUP + 1) == "use"


def test_a_user_without_a_name_has_a_number() -> None:
    assert user_name(0) == "root"
    assert user_name(STRANGER) == f"uid {STRANGER}"


def test_refusals_of_one_user_are_noted_only_so_often() -> None:
    throttle = Throttle(most=3)
    assert [throttle.admits(1) for _ in range(5)] == [True, True, True, False, False]
    assert throttle.admits(2)
