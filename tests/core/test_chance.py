"""What tells failures by chance from those of the load."""

from cdf_upsert.core.chance import MEMORY, Failures


def feed(failures: Failures, level: int, replies: int, failed: int, at: float = 0.0) -> None:
    for number in range(replies):
        failures.observe(at, level, failed=number < failed)


def test_as_many_at_lower_levels_are_chance():
    """A tenth fails at 4, and a tenth at 8."""
    failures = Failures()
    feed(failures, 4, 20, 2)
    feed(failures, 8, 20, 2)
    assert failures.are_chance(8, 6)


def test_many_more_than_at_lower_levels_are_no_chance():
    """One in twenty fails at 4, and a third at 8."""
    failures = Failures()
    feed(failures, 4, 20, 1)
    feed(failures, 8, 30, 10)
    assert not failures.are_chance(8, 6)


def test_a_few_replies_at_lower_levels_tell_nothing():
    """Of five replies none or one can have failed, whatever the share."""
    failures = Failures()
    feed(failures, 4, 5, 1)
    feed(failures, 8, 5, 1)
    assert not failures.are_chance(8, 6)


def test_a_level_that_is_only_a_little_lower_is_not_compared_with():
    """Up to 6 is clearly lower than 8; 7 is not."""
    failures = Failures()
    feed(failures, 7, 30, 3)
    feed(failures, 8, 30, 3)
    assert not failures.are_chance(8, 6)


def test_three_failures_after_many_calm_replies_one_lower_are_the_levels_own():
    """At 4 of 64 none failed: that three fail at 5 comes from the fifth; one alone tells nothing yet."""
    failures = Failures()
    feed(failures, 4, MEMORY, 0)
    feed(failures, 5, 10, 1)
    assert not failures.are_its_own(5)
    feed(failures, 5, 10, 2)
    assert failures.are_its_own(5)


def test_a_reply_counts_for_the_level_at_which_it_was_asked_for():
    """What was sent at 8 and fails after the level came down to 6 says nothing of 6."""
    failures = Failures()
    feed(failures, 4, 20, 0)
    failures.leave(10.0, 8)
    failures.observe(9.0, 6, failed=True)
    failures.observe(11.0, 6, failed=False)
    assert failures.failed[8] == 1
    assert (failures.replies[6], failures.failed[6]) == (1, 0)


def test_older_replies_count_less_and_less():
    """A level that failed often and has not for long is fine."""
    failures = Failures()
    feed(failures, 8, 30, 15)
    feed(failures, 8, 5 * MEMORY, 0)
    assert failures.failed[8] <= 1
    assert failures.replies[8] <= MEMORY


def test_what_is_forgotten_is_judged_anew():
    """After three refusals at 5 and one less, a later try of 5 begins with no fault; what 4 showed stands."""
    failures = Failures()
    feed(failures, 4, MEMORY, 0)
    feed(failures, 5, 10, 3)
    failures.forget(5)
    assert (failures.replies[5], failures.failed[5], failures.replies[4]) == (0, 0, MEMORY)
