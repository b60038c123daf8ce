"""What a person reads when the hub or the network fails."""

import errno

import pytest
from huggingface_hub.utils import httpx

from rm_robustness.data.hub_errors import explained
from rm_robustness.errors import InputError

WHERE = "team/data at 0123"


def test_an_error_of_the_network_is_one_line_without_the_secrets_of_its_address():
    with pytest.raises(InputError) as error, explained(WHERE, "no readable split 'train'"):
        raise httpx.ConnectError("no route to\nhttps://hub/file?token=s3cret now")
    message = str(error.value)
    assert f"{WHERE}: found no readable split 'train' (no route to https://hub/file now)" in message
    assert "HF_TOKEN" in message and "s3cret" not in message and "\n" not in message


def test_a_full_disk_is_not_blamed_on_the_hub():
    with pytest.raises(OSError, match="No space left"), explained(WHERE):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_errors_of_other_libraries_are_explained_where_they_are_named():
    class OtherError(Exception):
        pass

    with (
        pytest.raises(InputError, match="nothing to fetch"),
        explained(WHERE, errors=(OtherError,)),
    ):
        raise OtherError
    with pytest.raises(OtherError), explained(WHERE):
        raise OtherError
