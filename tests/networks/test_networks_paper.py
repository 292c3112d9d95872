"""The paper's branches, and the context of rows."""

import torch
from networks_made import make

from sonoseek.networks.pixel_rows import WIDTH, PixelRows, averaging
from sonoseek.networks.row_context import RowContext


def test_the_row_context_starts_as_the_identity_and_reads_depth_once_trained():
    context = RowContext(8).eval()
    features, validity = torch.rand(2, 8, 6, 6), torch.ones(2, 1, 6, 6)
    with torch.no_grad():
        torch.testing.assert_close(context(features, validity), features)
        context.speak.weight.normal_()
        below = features.clone()
        below[:, :, 5] += 1.0
        changed = (context(below, validity) - context(features, validity)).abs().amax((0, 1, 3))
    assert torch.all(changed[:5] > 1e-6)  # every row hears of what lies below it


def test_plain_is_the_hybrid_without_its_rows():
    hybrid, plain = make("hybrid", "tiny"), make("plain", "tiny")
    left = hybrid.load_state_dict(plain.state_dict(), strict=False)
    assert not left.unexpected_keys
    assert {key.split(".")[0] for key in left.missing_keys} == {"rows"}
    canvas = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert (hybrid(canvas).embedding - plain(canvas).embedding).abs().max() > 1e-3
        hybrid.rows.speak.weight.zero_()
        hybrid.rows.speak.bias.zero_()  # a gate of 1 and no shift
        torch.testing.assert_close(hybrid(canvas).embedding, plain(canvas).embedding)


def test_a_row_is_averaged_onto_a_fixed_width():
    row = torch.rand(224)
    torch.testing.assert_close(row @ averaging(224, 112), row.reshape(112, 2).mean(1))
    torch.testing.assert_close(averaging(WIDTH, WIDTH), torch.eye(WIDTH))
    uneven = averaging(144, WIDTH)
    torch.testing.assert_close(uneven.sum(0), torch.ones(WIDTH))  # grey stays grey
    torch.testing.assert_close(uneven.sum(1), torch.full((144,), WIDTH / 144))  # every pixel counts the same


def test_an_rnn_tells_depths_not_places():
    network = make("rnn_only", "none")
    canvas = torch.rand(1, 1, 96, 96)
    with torch.no_grad():
        evidence = network(canvas).evidence
        torch.testing.assert_close(evidence, evidence[..., :1].expand_as(evidence))
        changed = canvas.clone()
        changed[:, :, 40:48, 10:20] = 0.0
        difference = (network(changed).evidence - evidence).abs().amax((0, 1, 3))
    assert torch.all(difference > 1e-5)  # rows above and below hear of it
    assert difference.argmax() == 2  # and its own the most


def test_every_pixel_row_is_a_step():
    rows, steps = PixelRows(), []
    rows.lstm.register_forward_hook(lambda _module, inputs, _output: steps.append(inputs[0]))
    canvas = torch.full((1, 1, 64, 64), 0.3)
    canvas[:, :, 10] = -1
    canvas[:, :, 20, 32:] = -1
    with torch.no_grad():
        assert rows(canvas).shape == (1, rows.channels, 4)
    (told,) = steps
    assert told.shape == (1, 64, WIDTH + 1)
    torch.testing.assert_close(told[0, :, :-1], torch.zeros(64, WIDTH), atol=1e-6, rtol=0)  # grey and padding as 0
    torch.testing.assert_close(told[0, 9:21, -1], torch.tensor([1.0, 0.0, *[1.0] * 9, 0.5]))


def test_the_papers_fusion_is_that_of_the_branches_embeddings():
    network = make("paper_hybrid", "none")
    canvas = torch.rand(2, 1, 96, 96)
    with torch.no_grad():
        features, rows = network.backbone(canvas)
        seen = network.seen(features).mean((2, 3))
        heard = network.heard(rows.mean(2))
        fused = torch.cat([seen, heard], 1) @ network.fusion.weight[:, :, 0, 0].T + network.fusion.bias
        torch.testing.assert_close(network(canvas).embedding, fused, rtol=1e-4, atol=1e-5)
