from keys.errors import ExceedsGrant, Forbidden, Invalid, InvalidMany, KeysError, NameTaken, RotationRunning


def rungs(rung=KeysError):
    return [rung, *(below for child in rung.__subclasses__() for below in rungs(child))]


class TestLadder:
    def test_says_its_docstring_unless_told_more(self):
        assert str(NameTaken()) == "Another key of this environment already has this name."
        assert str(ExceedsGrant("You can't grant a:b.", field="scopes")) == "You can't grant a:b."

    def test_every_rung_has_a_sentence_and_a_code_of_its_own(self):
        assert all(rung.__doc__.partition("\n")[0].endswith(".") for rung in rungs())
        own = [rung.code for rung in rungs() if rung is not InvalidMany]
        assert len(own) == len(set(own))

    def test_an_excess_is_forbidden(self):
        assert issubclass(ExceedsGrant, Forbidden)

    def test_a_running_rotation_is_named(self):
        assert RotationRunning("rot_1").rotation_id == "rot_1"


class TestInvalidMany:
    def test_one_is_a_list_of_itself(self):
        error = Invalid("No.", field="name")
        assert list(error.errors) == [error]

    def test_gathers_flat(self):
        one, two, three = Invalid(field="a"), Invalid(field="b"), Invalid(field="c")
        assert list(InvalidMany([one, InvalidMany([two, three])]).errors) == [one, two, three]
