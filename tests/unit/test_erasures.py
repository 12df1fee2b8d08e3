"""What erasures name: batches of them, and the openings that are still to be accounted for."""

import sys

from hypothesis import given
from hypothesis import strategies as st

from audit.erasing import erasures
from audit.erasing.erasures import Erasure, Missing

places = st.tuples(st.integers(1, 3), st.integers(0, 20_000))
fields = st.sampled_from(["email", "ip", "name", "user_agent"])
named = st.lists(st.tuples(places, fields), max_size=80)


def product(erasure):
    return [((erasure.epoch, i), field) for i in erasure.entries for field in erasure.fields]


class TestBatches:
    @given(named)
    def test_they_name_exactly_what_was_asked(self, asked):
        found = [name for erasure in erasures.batches(asked) for name in product(erasure)]
        assert sorted(found) == sorted(set(asked))

    def test_none_is_too_long_for_an_entry(self):
        high = 2**53 - 2_000
        found = list(erasures.batches(((1, high + i), "email") for i in range(1_200)))
        assert [len(erasure.entries) for erasure in found] == [500, 500, 200]
        assert len(str(found[0].entries).replace(" ", "")) < 9_000

    def test_the_epoch_is_told_where_it_is_another_one(self):
        erasure = Erasure(epoch=1, entries=[1], fields=["ip"])
        assert erasure.data(1) == {"entries": [1], "fields": ["ip"]}
        assert erasure.data(2) == {"entries": [1], "fields": ["ip"], "epoch": 1}
        for own in (1, 2):
            assert erasures.read(erasure.data(own), own) == erasure


class TestMissing:
    @given(named, named)
    def test_what_is_left_is_the_difference(self, gone, erased):
        missing = Missing()
        for position, field in gone:
            missing.add(position, field)
        for erasure in erasures.batches(erased):
            missing.account(erasure)
        assert missing.first() == min(set(gone) - set(erased), default=None)

    def test_what_comes_after_an_erasure_is_not_accounted_for_by_it(self):
        missing = Missing()
        missing.account(Erasure(epoch=1, entries=[7], fields=["ip"]))
        missing.add((1, 7), "ip")
        assert missing.first() == ((1, 7), "ip")

    def test_a_million_of_them_take_little_memory(self):
        missing = Missing()
        for index in range(1_000_000):
            missing.add((1, index), "ip")
        held = missing._bits
        assert sum(sys.getsizeof(bits) + sys.getsizeof(place) for place, bits in held.items()) < 300_000
