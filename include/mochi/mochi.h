// The public C++ API of mochi.cpp: a prompt goes in, video frames come out. Standard types only.
//
//   mochi::Engine engine({.model_dir = "models/micro"});
//   mochi::GenerateRequest request = engine.model().default_request();
//   request.prompt = "a red ball";
//   const mochi::Latents latents = engine.sample(request);
//   engine.decode(latents, [](std::span<const std::uint8_t> rgb, std::int64_t frame_idx) { ... });
//
// Errors are exceptions of mochi/error.h: InvalidRequest names the wrong field; OutOfMemory lists
// changes that need less memory; and Error, the base of all, has one line that names the file or
// the tensor, what was wanted and what was found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "mochi/analysis.h"
#include "mochi/compute.h"
#include "mochi/enums.h"
#include "mochi/error.h"
#include "mochi/frame_sink.h"
#include "mochi/message.h"
#include "mochi/sparsity.h"
#include "mochi/weight_format.h"

namespace mochi {

// "0.1.0"
const char* version();

// A low-rank change of the transformer, added to its weights when they are loaded.
struct Lora {
  std::filesystem::path path;  // a .safetensors file
  double scale = 1.0;          // strength relative to the one it was trained with
};

// Networks and a tokenizer that are used instead of those in the model folder. Empty: the folder's.
struct ModelPaths {
  std::filesystem::path dit;           // a file, an index of shards, or a folder of one network
  std::filesystem::path text_encoder;  // likewise
  std::filesystem::path vae;           // likewise: the decoder, the encoder, or both
  std::filesystem::path tokenizer;     // a file
};

// Calls visit("dit", paths.dit) and so on for all of them.
template <typename AnyModelPaths, typename Visitor>
void visit_paths(AnyModelPaths& paths, Visitor&& visit) {
  visit("dit", paths.dit);
  visit("text_encoder", paths.text_encoder);
  visit("vae", paths.vae);
  visit("tokenizer", paths.tokenizer);
}

// Returns true if one of the paths is given.
bool has_any(const ModelPaths& paths);

struct EngineOptions {
  std::filesystem::path model_dir;  // may be empty if the paths name all that is needed
  DeviceKind device = DeviceKind::kAuto;
  // Which of several: GPUs as CUDA counts them, 0 for kAuto. CPU devices of different numbers share
  // memory and processors and are otherwise independent.
  int device_index = 0;
  // Precision of the weights in memory; on a GPU, of the activations as well.
  Precision precision = Precision::kAuto;
  // Precision of the matrices of the transformer's and the text encoder's linear layers in memory,
  // from which each is widened to `precision` when it is used. Nothing: that of the file, if it is
  // smaller than BF16. kBf16: `precision`. kFp16 is refused.
  std::optional<WeightFormat> weights = {};
  // Types in which the linear layers of the transformer's blocks multiply; nothing: kBf16. 8 bits
  // are for the CPU, and not for sparse feed-forward layers.
  std::optional<ComputePlan> compute = {};
  // Most bytes of GPU memory to use; 0: no limit. Refused on the CPU.
  std::uint64_t vram_limit_bytes = 0;
  // 0: one for each processor of the machine. The number holds for the whole process.
  int num_threads = 0;
  // Drop each network as soon as it has done its part; on a GPU, also keep the transformer's blocks
  // in host memory and copy each of them to the GPU when it runs.
  bool cpu_offload = false;
  std::vector<Lora> loras = {};  // their changes add up
  RandomWeights random_weights = RandomWeights::kNone;
  ModelPaths paths = {};
  // Receives the engine's messages, from the thread that calls the engine. Empty: they are dropped.
  MessageFn on_message = {};
};

// One video. ModelInfo::default_request() fills in the model's own defaults.
struct GenerateRequest {
  std::string prompt;           // UTF-8; empty: an unconditional sample
  std::string negative_prompt;  // UTF-8; empty: guidance leads away from the unconditional sample
  int width = 848;              // pixels, a multiple of 16
  int height = 480;             // pixels, a multiple of 16
  int num_frames = 163;         // 6·k + 1
  std::uint64_t seed = 0;
  int num_steps = 64;                // 1 to 10000
  double cfg_scale = 6.0;            // guidance; 1: none
  std::vector<double> cfg_schedule;  // guidance of each step (num_steps values); empty: cfg_scale
  double threshold_noise = 0.025;    // noise that the linear steps remove, 0 to below 1
  int linear_steps = 0;              // below num_steps; 0: half of them
  NoiseSource noise_source = NoiseSource::kMochi;
  // Start noise in place of the seed's: [channels, num_frames, height, width] as in Latents,
  // finite; or empty.
  std::vector<float> initial_noise;
  std::optional<SparsityConfig> sparsity = {};  // nothing: dense attention
};

// Spreads the schedules of the request's sparsity over its own steps, as sample() does, so that
// SparsityConfig::steps is empty. The request must be valid.
GenerateRequest fit_schedules(GenerateRequest request);

// Returns the num_steps + 1 noise levels before, between and after the steps, from 1 (pure noise)
// to 0. The request must be valid.
std::vector<double> noise_levels(const GenerateRequest& request);

// The tensor that sampling works on: normalised latents, f32.
struct Latents {
  std::vector<float> values;  // [channels, num_frames, height, width]
  std::int64_t channels = 0;
  std::int64_t num_frames = 0;  // latent frames
  std::int64_t height = 0;      // latent rows
  std::int64_t width = 0;       // latent columns
};

struct VideoSize {
  int width = 0, height = 0;  // pixels
  int num_frames = 0;
};

// Where a call stands. It is reported at the beginning of a phase (num_done == num_before), after
// every piece of it, and at its end (num_done == num_total).
struct Progress {
  Phase phase = Phase::kLoading;
  std::string item;           // the network that is loaded; empty in other phases
  std::int64_t num_done = 0;  // tensors, prompts, steps or frames
  std::int64_t num_total = 0;
  double seconds = 0;           // since the phase (of this item) began
  std::int64_t num_before = 0;  // those of num_done that an earlier run did, which is resumed
  // Sampling only: the steps of this call that evaluated the transformer, which take nearly all of
  // the time, and an estimate of how many more will.
  std::int64_t num_evaluated = 0;
  double num_evaluations_left = 0;
};

// A tensor that sparse steps depend on.
struct CachedTensor {
  std::string name;
  std::string dtype;                // dtype of the stored values: "F32", "BF16", "F8_E4M3" or "I32"
  std::vector<std::int64_t> shape;  // row-major
  std::vector<std::byte> bytes;     // little-endian
};

// A point between two steps: with the same request, sampling can be resumed from it and gives the
// same latents as without an interruption.
struct SamplerState {
  int num_steps_done = 0;  // 1 to below num_steps
  Latents latents;
  std::vector<CachedTensor> caches = {};  // caches of a sparse sampling
};

// A running sampling after num_done() complete steps. It is valid during the Observer's call only.
class StepView {
 public:
  virtual ~StepView() = default;
  virtual int num_done() const = 0;
  virtual int num_steps() const = 0;
  virtual const Latents& latents() const = 0;
  // The steps so far that evaluated the transformer, counted from 0, in order; all of them without
  // step skipping.
  virtual std::vector<int> evaluated_steps() const = 0;
  // Everything needed to resume with the same result; sparse caches are copied from the device when
  // this is called. Nothing where no consistent state is available: the next step has already
  // rewritten a part of the caches, or the GPU cannot be read any more.
  virtual std::optional<SamplerState> state() const = 0;
};

// Receives the progress of a call and can end it early. All members have defaults that do nothing.
// They are called from the thread that runs the engine. They must not call the engine, which would
// throw Busy. An exception that they throw ends the call and propagates to its caller; those of
// on_interrupted only cause a warning, and std::bad_alloc may come out as OutOfMemory.
class Observer {
 public:
  virtual ~Observer() = default;
  // False ends the call with Cancelled.
  virtual bool on_progress(const Progress& /*progress*/) { return true; }
  // True ends the call with Cancelled. Called often, also within operations on the CPU, and so has
  // to be fast.
  virtual bool should_stop() { return false; }
  // After each step of sampling.
  virtual void on_step(const StepView& /*view*/) {}
  // Sampling ends before its last step, because it was cancelled or failed: the last chance to keep
  // the state after the last complete step. Not called when this call has completed no step, or
  // when the observer's own exception ends it.
  virtual void on_interrupted(const StepView& /*view*/) {}
  // True: on_site is called for each site of a sparse request, which then takes several times as
  // long and gives the same latents.
  virtual bool wants_sites() const { return false; }
  virtual void on_site(const SiteReport& /*site*/) {}
  // True: on_skip is called for each step that step skipping leaves out. The transformer is
  // evaluated there as well, with dense attention; the latents are the same.
  virtual bool wants_skips() const { return false; }
  virtual void on_skip(const SkipReport& /*skip*/) {}
  // True: at about four steps, on_product is called for each block and each group of its linear
  // layers that multiplies in the engine's precision; the latents are the same. Without
  // cpu_offload.
  virtual bool wants_products() const { return false; }
  virtual void on_product(const ProductReport& /*product*/) {}
};

struct SampleOptions {
  // Resume from this state instead of starting from noise. It is read during the call.
  const SamplerState* start = nullptr;
  // The steps that an earlier sampling of the same request evaluated, to repeat it where step
  // skipping decides by measured values. Empty: step skipping decides.
  std::set<int> evaluated_steps = {};
  // When a step gives values that are not finite, repeat it to name the layer they come from.
  bool checks_finite = false;
};

// 16 hexadecimal digits that depend on a file's size and content, to recognise the file: on all of
// a file below 1 MiB; of larger ones on 256 evenly spaced blocks of 4 KiB, the first and the last
// included. Throws Error when the file cannot be read.
std::string fingerprint_file(const std::filesystem::path& path);

// A file that the results depend on.
struct ModelFile {
  std::string name;  // relative to the model folder; absolute if it is elsewhere
  std::uint64_t size_bytes = 0;
  std::string fingerprint;  // as fingerprint_file()
};

// The files, sizes and defaults of a model, read without its weights. It is immutable: all members
// may be called from any thread, also while an Engine of the model is running. Copies are cheap and
// share what was read.
class ModelInfo {
 public:
  // Uses model_dir, paths, random_weights and loras. Finds the model's files, reads its sizes and
  // checks that the LoRAs fit. Throws Error naming the file.
  explicit ModelInfo(const EngineOptions& options);

  // The model folder's defaults, or Mochi 1's.
  GenerateRequest default_request() const;
  int default_fps() const;  // frames per second

  // Throws InvalidRequest when Engine::sample() would refuse the request.
  void check(const GenerateRequest& request) const;
  // Settings that are valid but probably unintended, one line each.
  std::vector<std::string> warnings(const GenerateRequest& request) const;
  // Throws Error when a file is missing that sampling this request or decoding its latents needs,
  // or when a tensor in it is missing or has another shape or type.
  void check_files(const GenerateRequest& request) const;

  // Latents without values for a video of this size, and the size of the video of latents. Throw
  // InvalidRequest naming "width", "height", "num_frames" or "latents".
  Latents latent_size(const VideoSize& size) const;
  VideoSize video_size(const Latents& latents) const;

  int num_layers() const;  // layers of the transformer, as SparsityConfig counts them
  // All files that the results depend on, LoRAs apart; reads a part of each for its fingerprint.
  std::vector<ModelFile> files() const;

 private:
  friend class Engine;
  struct Data;
  std::shared_ptr<const Data> data_;
};

// How an engine runs.
struct EngineInfo {
  DeviceKind device = DeviceKind::kCpu;  // kCpu or kCuda
  int device_index = 0;
  std::string device_name;                 // "CPU", or the GPU's name
  std::string device_note;                 // why kAuto did not choose a GPU; otherwise empty
  Precision precision = Precision::kFp32;  // kFp32 or kBf16
  int num_threads = 0;
  bool keeps_networks = false;          // between calls, as long as none needs the room of another
  std::uint64_t peak_device_bytes = 0;  // most GPU memory used so far; 0 on the CPU
};

// Number of texts whose features an engine stores.
inline constexpr std::size_t kMaxEncodedPrompts = 16;

// One model on one device. Weights are read when they are first needed. On a CPU they stay in
// memory if all of them fit into half of it; on a GPU until another network needs the room.
// Otherwise, and with cpu_offload, each network is dropped as soon as it has done its part.
//
// sample(), encode_prompts(), decode() and encode() run one at a time: called while one of them is
// running, from another thread or from a callback, they throw Busy and change nothing. model() and
// info() may be called at any time from any thread. After an error, also OutOfMemory, and after
// Cancelled the engine can be used again. An engine that was moved to another object throws Error.
// Neither move nor destroy an engine during a call.
class Engine {
 public:
  // Throws InvalidRequest for options that do not fit together, and Error as ModelInfo does or when
  // the device cannot be used.
  explicit Engine(const EngineOptions& options);
  ~Engine();
  Engine(Engine&&) noexcept;
  Engine& operator=(Engine&&) noexcept;

  const ModelInfo& model() const;
  EngineInfo info() const;

  // Encodes the prompts and samples latents of the request's size, all of them finite. Throws
  // InvalidRequest, NotFinite, OutOfMemory, Cancelled, Busy, or Error; errors of a step name it.
  Latents sample(const GenerateRequest& request, Observer& observer,
                 const SampleOptions& options = {});
  Latents sample(const GenerateRequest& request, const SampleOptions& options = {});

  // Encodes prompts, or negative prompts, of samplings that are to follow, so that the text encoder
  // is loaded once for all of them. The engine stores the features of the kMaxEncodedPrompts texts
  // that it encoded or used last, in host memory. sample() takes the features of a stored text from
  // there: the latents are the same, and the text encoder is not loaded. Throws InvalidRequest
  // naming "prompts" if there are more than kMaxEncodedPrompts, and otherwise as sample() does.
  // When it throws, the prompts before are stored.
  void encode_prompts(std::span<const std::string> prompts, Observer& observer);
  void encode_prompts(std::span<const std::string> prompts);

  // Decodes latents and gives each frame to `sink` as soon as it is ready. Throws as sample() does.
  void decode(const Latents& latents, const FrameSink& sink, Observer& observer);
  void decode(const Latents& latents, const FrameSink& sink);

  // The latents (means of the posterior, normalised) of a video: RGB bytes [num_frames, height,
  // width, 3]. The whole clip is encoded at once. Throws as sample() does.
  Latents encode(std::span<const std::uint8_t> rgb, const VideoSize& size, Observer& observer);
  Latents encode(std::span<const std::uint8_t> rgb, const VideoSize& size);

 private:
  struct Impl;
  Impl& checked_impl() const;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mochi
