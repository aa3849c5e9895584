// The function that receives decoded frames.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace mochi {

// Receives one frame: RGB bytes [height, width, 3] and its index in the video. Frames come in
// order, from the thread that runs the engine. The bytes are valid during the call only. An
// exception that the sink throws ends the decoding and comes out of Engine::decode() as it is.
using FrameSink = std::function<void(std::span<const std::uint8_t> rgb, std::int64_t frame_idx)>;

}  // namespace mochi
