// The public C++ API of mochi.cpp: a prompt goes in, video frames come out. Standard types only.
//
//   mochi::Engine engine({.model_dir = "models/micro"});
//   mochi::GenerateRequest request = engine.default_request();
//   request.prompt = "a red ball";
//   const mochi::Latents latents = engine.sample(request);
//   engine.decode(latents, [](std::span<const std::uint8_t> rgb, std::int64_t frame_idx) { ... });
//
// Everything throws std::runtime_error with one line that says what was wanted and what was found;
// where a field of a request is at fault, the line starts with the field's name and a colon.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "mochi/analysis.h"
#include "mochi/sparsity.h"

namespace mochi {

// "0.1.0"
const char* version();

// A low-rank change of the transformer, added to its weights when they are loaded.
struct Lora {
  std::filesystem::path path;  // a .safetensors file
  double scale = 1.0;          // how strong, compared with how it was trained
};

struct EngineOptions {
  std::filesystem::path model_dir;
  std::string device = "auto";  // "cuda", "cpu", or "auto": a GPU where there is one
  // Of the weights in memory, and on a GPU of all that is computed: "fp32", "bf16" or "auto".
  std::string dtype = "auto";
  std::uint64_t vram_limit_bytes = 0;  // of a GPU's memory; 0: all that there is
  int num_threads = 0;  // 0: as many as the machine offers; holds for the whole process
  // Drop every network as soon as it has done its part; and on a GPU keep the transformer's blocks
  // in host memory, from where they come when they run.
  bool cpu_offload = false;
  std::vector<Lora> loras = {};  // their changes add up
  // Random weights instead of files: "config": networks of the sizes in model_dir's config.json;
  // "mochi-1-preview": of that model's sizes. For trying out and measuring.
  std::string random_weights = {};
};

// One video. Engine::default_request() fills in the model's own defaults.
struct GenerateRequest {
  std::string prompt;           // UTF-8; empty: an unguided sample
  std::string negative_prompt;  // UTF-8; empty: guidance leads away from no text at all
  int width = 848;              // pixels, a multiple of 16
  int height = 480;             // pixels, a multiple of 16
  int num_frames = 163;         // 6·k + 1
  std::uint64_t seed = 0;
  int num_steps = 64;
  double cfg_scale = 6.0;            // guidance; 1: none
  std::vector<double> cfg_schedule;  // guidance of each step (num_steps values) instead, or empty
  double threshold_noise = 0.025;    // noise that the linear steps take away, 0 to below 1
  int linear_steps = 0;              // below num_steps; 0: half of them
  // "mochi": equal on every machine; "torch-cpu", "torch-cuda": what torch.manual_seed(seed) and
  // torch.randn give on a CPU, or on a GPU with 132 multiprocessors.
  std::string noise_source = "mochi";
  // Start noise instead of the seed's: [latent_channels, T, H, W] as in Latents, or empty.
  std::vector<float> initial_noise;
  std::optional<SparsityConfig> sparsity = {};  // nothing: dense attention
};

// What the sampler works on: normalised latents.
struct Latents {
  std::vector<float> values;  // [channels, num_frames, height, width]
  std::int64_t channels = 0;
  std::int64_t num_frames = 0;  // latent frames, T
  std::int64_t height = 0;      // H
  std::int64_t width = 0;       // W
};

struct VideoSize {
  int width = 0, height = 0;  // pixels
  int num_frames = 0;
};

enum class Phase : std::uint8_t { kLoading, kText, kSampling, kDecoding, kEncoding };

struct Progress {
  Phase phase = Phase::kLoading;
  std::string item;           // what is loaded; empty in the other phases
  std::int64_t num_done = 0;  // of num_total tensors, prompts, steps, frames
  std::int64_t num_total = 0;
  double seconds = 0;           // since the phase (the item) began
  std::int64_t num_before = 0;  // of num_done: done before, by a run that this one goes on with
};

// Called at the beginning of a phase (num_done == num_before), after every piece of it, and (with
// num_done == num_total) at its end, from the thread that runs the engine. Returning false cancels:
// the running call throws Cancelled, and the engine can go on with the next one.
using ProgressFn = std::function<bool(const Progress&)>;

class Cancelled : public std::runtime_error {
 public:
  Cancelled() : std::runtime_error("cancelled") {}
};

// A tensor that sparse steps depend on.
struct CachedTensor {
  std::string name;
  std::string dtype;  // "F32", "BF16" or "I32"
  std::vector<std::int64_t> shape;
  std::vector<std::byte> bytes;
};

// Where a sampling stands: with the same request it can go on from here to the same latents.
struct SamplerState {
  int num_steps_done = 0;  // 1 to below num_steps
  Latents latents;
  std::vector<CachedTensor> caches = {};  // of a sparse generation
};

struct SampleControl {
  // Steps between two calls of on_checkpoint; 0: none. It is also called when the sampling is then
  // cancelled, and always when a step fails. What it throws ends the sampling.
  int checkpoint_every = 0;
  std::function<void(const SamplerState&)> on_checkpoint;
  const SamplerState* start = nullptr;  // go on from here instead of from noise
  // Called for every site of a sparse request, which then takes several times as long and gives the
  // same latents.
  SiteFn on_site = {};
  // Look for values that are not finite after each step: an error names the step and the layer.
  bool checks_finite = false;
  // Called after each step with what there is so far.
  std::function<void(int num_done, const Latents&)> on_latents = {};
};

// RGB bytes [height, width, 3] of one frame, in order. They are gone when the call returns.
using FrameSink = std::function<void(std::span<const std::uint8_t> rgb, std::int64_t frame_idx)>;

// 16 hexadecimal digits of a file's size and content, to recognise it again: all of a file below
// 1 MiB; of larger ones 256 evenly spaced blocks of 4 KiB, the first and the last included.
std::string fingerprint_file(const std::filesystem::path& path);

// A file that the results depend on.
struct ModelFile {
  std::string name;  // below the model directory
  std::uint64_t size_bytes = 0;
  std::string fingerprint;
};

// One model on one device. Weights are read when they are first needed. On a CPU they stay in
// memory when all of them fit into half of it; on a GPU until another network needs the room.
// Otherwise, and with cpu_offload, each network is dropped as soon as it has done its part. After
// an error, also one of memory, the engine can be used again, with less to do. Calls are not to be
// made from two threads at once.
class Engine {
 public:
  // Finds the model's files, reads its sizes and checks that the LoRAs fit them; no weights yet.
  explicit Engine(const EngineOptions& options);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  // Generation defaults of the model directory, or Mochi 1's.
  GenerateRequest default_request() const;
  int default_fps() const;

  // Throws when sample() would refuse the request; needs no weights.
  void check(const GenerateRequest& request) const;
  // What sample() does not refuse, but what is probably not meant: a line each.
  std::vector<std::string> find_doubts(const GenerateRequest& request) const;
  // Throws when a file is missing that sample() of this request or decode() of its latents needs,
  // or a tensor in it is missing or wrong.
  void check_files(const GenerateRequest& request) const;

  // Text encoding and sampling: latents of the request's size.
  Latents sample(const GenerateRequest& request, const ProgressFn& progress = {},
                 const SampleControl& control = {});

  // Frames of latents, each given to `sink` as soon as it is ready. What the sink throws ends the
  // decoding and comes out of this call.
  void decode(const Latents& latents, const FrameSink& sink, const ProgressFn& progress = {});

  // The latents (means of the posterior, normalised) of a video: RGB bytes [num_frames, height,
  // width, 3]. The whole clip is worked on at once.
  Latents encode(std::span<const std::uint8_t> rgb, const VideoSize& size,
                 const ProgressFn& progress = {});

  // Empty latents (no values) for a video of this size, and back. Throw when there are none.
  Latents latent_size(const VideoSize& size) const;
  VideoSize video_size(const Latents& latents) const;

  int num_layers() const;  // of the transformer, as SparsityConfig counts them
  std::vector<ModelFile> model_files() const;
  std::string device() const;       // in use: "cuda" or "cpu"
  std::string device_name() const;  // "CPU", or the GPU's name
  std::string device_note() const;  // why "auto" did not take a GPU; empty: nothing to say
  std::string dtype() const;        // in use: "fp32" or "bf16"
  int num_threads() const;
  std::uint64_t peak_device_bytes() const;  // of a GPU's memory, so far; 0 on the CPU

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mochi
