"""Calls from several threads over one connection until the server has gone: none of them may be lost."""

import os
import threading

import numpy
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from golden import ADDRESS, LABELS, MANIFEST, images

# As a client comes: a call that it has not yet sent when it is told to go (GOAWAY) it sends over another connection. One
# that the server may have seen is sent once.
client = triton.InferenceServerClient(ADDRESS)
pixels = images().astype(numpy.uint8)
image = triton.InferInput("image", list(pixels.shape), "UINT8")
image.set_data_from_numpy(pixels)
lost, answered = [], [0] * 4


def press(number):
    while True:
        try:
            labels = client.infer(MANIFEST["name"], [image]).as_numpy("label")
        except InferenceServerException as error:
            # There is no server any more, which is known before anything is sent.
            if error.status() != "StatusCode.UNAVAILABLE" or "failed to connect" not in error.message().lower():
                lost.append(error)
            return
        assert [label.decode() for label in labels] == LABELS
        answered[number] += 1
        if answered[number] == 50:
            # Whole, while the other threads write too, which print is not.
            os.write(1, b"fifty\n")


threads = [threading.Thread(target=press, args=[number]) for number in range(len(answered))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not lost, [str(error) for error in lost]
print("answered", sum(answered))
