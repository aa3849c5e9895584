// Whole runs of a tiny random model through the public interface.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <initializer_list>
#include <thread>
#include <tuple>

#include "base/error.h"
#include "base/parallel_for.h"
#include "base/temp_folder.h"
#include "base/thread_pool.h"
#include "mochi/mochi.h"
#include "pipeline/step_observer.h"
#include "pipeline/tiny_model.h"
#include "support/test_data.h"

namespace mochi {
namespace {

struct Video {
  std::vector<std::vector<std::uint8_t>> frames;
  bool operator==(const Video&) const = default;
};

Video decode(Engine& engine, const Latents& latents, Observer& observer) {
  Video video;
  engine.decode(
      latents,
      [&](std::span<const std::uint8_t> rgb, std::int64_t frame_idx) {
        EXPECT_EQ(frame_idx, std::ssize(video.frames));
        video.frames.emplace_back(rgb.begin(), rgb.end());
      },
      observer);
  return video;
}

Video decode(Engine& engine, const Latents& latents) {
  Observer observer;
  return decode(engine, latents, observer);
}

class EngineRuns : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    write_tiny_model(*folder_ / "model", golden_tokenizer());
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static Engine open(int num_threads = 1) {
    EngineOptions options;
    options.model_dir = *folder_ / "model";
    options.precision = Precision::kFp32;
    options.num_threads = num_threads;
    return Engine(options);
  }
  static GenerateRequest request(const Engine& engine) {
    GenerateRequest request = engine.model().default_request();
    request.prompt = "a small red ball moves slowly to the left";
    request.seed = 7;
    return request;
  }
  static std::string check_error(const GenerateRequest& request) {
    return message_of<InvalidRequest>([&] { open().model().check(request); });
  }

  static inline std::unique_ptr<TempFolder> folder_;
};

TEST_F(EngineRuns, GivesAVideoOfTheRequestedSize) {
  Engine engine = open();
  EXPECT_EQ(engine.model().default_fps(), 24);
  const Latents latents = engine.sample(request(engine));
  EXPECT_EQ(latents.channels, 12);
  EXPECT_EQ(latents.num_frames, 3);
  EXPECT_EQ(latents.height, 6);
  EXPECT_EQ(latents.width, 8);
  for (const float value : latents.values) ASSERT_TRUE(std::isfinite(value));
  const Video video = decode(engine, latents);
  ASSERT_EQ(video.frames.size(), 13U);
  EXPECT_EQ(video.frames[0].size(), 64U * 48 * 3);
  EXPECT_NE(video.frames[0], video.frames[12]);
}

TEST_F(EngineRuns, SameSeedSameVideoForOneAndTwoThreads) {
  Engine one = open(1);
  EXPECT_EQ(one.info().num_threads, 1);
  const Latents latents_one = one.sample(request(one));
  const Video video_one = decode(one, latents_one);
  Engine two = open(2);
  EXPECT_EQ(two.info().num_threads, 2);
  const Latents latents_two = two.sample(request(two));
  EXPECT_EQ(latents_one.values, latents_two.values);
  EXPECT_EQ(video_one, decode(two, latents_two));
  set_num_threads(0);
}

TEST_F(EngineRuns, RepeatsItselfAndFollowsSeedPromptAndGuidance) {
  Engine engine = open();
  const GenerateRequest base = request(engine);
  const std::vector<float> first = engine.sample(base).values;
  EXPECT_EQ(engine.sample(base).values, first);
  GenerateRequest other = base;
  other.seed = 8;
  EXPECT_NE(engine.sample(other).values, first);
  other = base;
  other.prompt = "a large blue cube";
  EXPECT_NE(engine.sample(other).values, first);
  other = base;
  other.negative_prompt = "a large blue cube";
  EXPECT_NE(engine.sample(other).values, first);
  other = base;
  other.cfg_schedule = {4.5, 4.5, 4.5, 4.5};
  EXPECT_EQ(engine.sample(other).values, first);
  other.cfg_schedule = {4.5, 4.5, 4.5, 1.0};
  EXPECT_NE(engine.sample(other).values, first);
}

TEST_F(EngineRuns, GivenNoiseReplacesTheSeed) {
  Engine engine = open();
  GenerateRequest base = request(engine);
  const std::vector<float> first = engine.sample(base).values;
  base.initial_noise.resize(first.size());
  fill_normal(NoiseSource::kMochi, base.seed, base.initial_noise);
  base.seed = 99;
  EXPECT_EQ(engine.sample(base).values, first);
}

TEST_F(EngineRuns, AnEmptyPromptNeedsNoTextEncoder) {
  const TempFolder bare;
  std::filesystem::copy(*folder_ / "model", bare / "model",
                        std::filesystem::copy_options::recursive);
  std::filesystem::remove_all(bare / "model/text_encoder");
  std::filesystem::remove_all(bare / "model/tokenizer");
  Engine engine({.model_dir = bare / "model", .precision = Precision::kFp32, .num_threads = 1});
  GenerateRequest unconditional = engine.model().default_request();
  unconditional.prompt.clear();
  EXPECT_FALSE(engine.sample(unconditional).values.empty());
  unconditional.prompt = "a ball";
  expect_contains(message_of<Error>([&] { engine.sample(unconditional); }), "no tokenizer found");
}

TEST_F(EngineRuns, ResumesFromACheckpoint) {
  Engine engine = open();
  const GenerateRequest base = request(engine);
  std::vector<SamplerState> states;
  StepObserver keeping;
  keeping.after_step = [&](const StepView& view) {
    EXPECT_EQ(view.num_steps(), base.num_steps);
    if (const auto state = view.state()) states.push_back(*state);
  };
  const std::vector<float> whole = engine.sample(base, keeping).values;
  ASSERT_EQ(std::ssize(states), base.num_steps - 1);
  for (const SamplerState& state : states) {
    std::vector<std::int64_t> done;
    StepObserver recording;
    recording.progress = [&](const Progress& progress) {
      if (progress.phase == Phase::kSampling) done.push_back(progress.num_done);
      return true;
    };
    EXPECT_EQ(engine.sample(base, recording, {.start = &state}).values, whole);
    ASSERT_EQ(std::ssize(done), base.num_steps - state.num_steps_done + 1);
    EXPECT_EQ(done.front(), state.num_steps_done);
  }
  SamplerState wrong = states.front();
  wrong.num_steps_done = base.num_steps;
  expect_contains(message_of<InvalidRequest>([&] { engine.sample(base, {.start = &wrong}); }),
                  "start: wanted 1 to 3 steps done, found 4");
  wrong.latents.values.pop_back();
  expect_contains(message_of<InvalidRequest>([&] { engine.sample(base, {.start = &wrong}); }),
                  "start: wanted latents");
}

TEST_F(EngineRuns, CancellingGivesTheStateOfTheLastStep) {
  Engine engine = open();
  StepObserver observer;
  observer.progress = [](const Progress& progress) {
    return progress.phase != Phase::kSampling || progress.num_done < 2;
  };
  EXPECT_THROW(engine.sample(request(engine), observer), Cancelled);
  EXPECT_EQ(observer.num_interruptions, 1);
  ASSERT_TRUE(observer.state);
  EXPECT_EQ(observer.state->num_steps_done, 2);
}

// should_stop() is polled between the blocks: the steps before are kept, and resuming from them
// gives the same latents.
TEST_F(EngineRuns, StopsBetweenBlocksAndResumesToTheSameLatents) {
  Engine engine = open();
  const GenerateRequest base = request(engine);
  const std::vector<float> whole = engine.sample(base).values;
  int num_polls_in_step = 0;
  for (int last_poll = 1; last_poll <= 6; ++last_poll) {
    StepObserver observer;
    int num_polls = 0;
    bool is_third_step = false;
    observer.after_step = [&](const StepView& view) { is_third_step = view.num_done() == 2; };
    observer.stop = [&] { return is_third_step && ++num_polls == last_poll; };
    EXPECT_THROW(engine.sample(base, observer), Cancelled);
    num_polls_in_step = num_polls;
    ASSERT_TRUE(observer.state);
    EXPECT_EQ(observer.state->num_steps_done, 2);
    EXPECT_EQ(engine.sample(base, {.start = &*observer.state}).values, whole);
  }
  EXPECT_EQ(num_polls_in_step, 6);
}

// An operation of a large video takes longer than anybody wants to wait.
TEST_F(EngineRuns, StopsInsideAnOperation) {
  Engine engine = open(2);
  const Latents latents = engine.sample(request(engine));
  StepObserver observer;
  observer.stop = [] {
    // parallel_for asks again only after 50 ms.
    std::this_thread::sleep_for(std::chrono::milliseconds(60));
    return ThreadPool::is_inside_task();
  };
  EXPECT_THROW(engine.sample(request(engine), observer), Cancelled);
  EXPECT_THROW(decode(engine, latents, observer), Cancelled);
  const VideoSize size{.width = 64, .height = 48, .num_frames = 13};
  const std::vector<std::uint8_t> rgb(std::size_t{64} * 48 * 3 * 13);
  EXPECT_THROW(engine.encode(rgb, size, observer), Cancelled);
  EXPECT_EQ(engine.sample(request(engine)).values, latents.values);
  set_num_threads(0);
}

TEST_F(EngineRuns, StopsInsideEveryNetwork) {
  Engine engine = open();
  const GenerateRequest base = request(engine);
  const Latents latents = engine.sample(base);
  std::vector<std::uint8_t> rgb;
  for (const auto& frame : decode(engine, latents).frames) {
    rgb.insert(rgb.end(), frame.begin(), frame.end());
  }
  // The beginning of the phase is reported, and the end of its first piece is not.
  const auto expect_stop = [](Phase phase, const auto& call) {
    StepObserver observer;
    Phase running = Phase::kLoading;
    std::int64_t num_done = 0;
    int num_polls = 0;
    observer.progress = [&](const Progress& progress) {
      running = progress.phase;
      num_done = progress.num_done;
      return true;
    };
    observer.stop = [&] { return running == phase && ++num_polls == 3; };
    EXPECT_THROW(call(observer), Cancelled) << name_of(phase);
    EXPECT_EQ(running, phase);
    EXPECT_EQ(num_done, 0) << name_of(phase);
  };
  GenerateRequest unseen = base;
  unseen.prompt = "a large blue cube";
  expect_stop(Phase::kText, [&](Observer& observer) { engine.sample(unseen, observer); });
  expect_stop(Phase::kSampling, [&](Observer& observer) { engine.sample(base, observer); });
  expect_stop(Phase::kDecoding, [&](Observer& observer) { decode(engine, latents, observer); });
  const VideoSize size = engine.model().video_size(latents);
  expect_stop(Phase::kEncoding, [&](Observer& observer) { engine.encode(rgb, size, observer); });
  EXPECT_EQ(engine.sample(base).values, latents.values);
}

TEST_F(EngineRuns, CallsFromInsideACallAreRefused) {
  Engine engine = open();
  const GenerateRequest base = request(engine);
  const Latents latents = engine.sample(base);
  StepObserver observer;
  int num_refused = 0;
  observer.after_step = [&](const StepView& view) {
    EXPECT_THROW(decode(engine, view.latents()), Busy);
    EXPECT_THROW(engine.sample(base), Busy);
    engine.model().check(base);
    EXPECT_EQ(engine.info().device, DeviceKind::kCpu);
    ++num_refused;
  };
  EXPECT_EQ(engine.sample(base, observer).values, latents.values);
  EXPECT_EQ(num_refused, base.num_steps);
  EXPECT_THROW(engine.decode(latents, [&](std::span<const std::uint8_t>,
                                          std::int64_t) { decode(engine, latents); }),
               Busy);
  EXPECT_EQ(decode(engine, latents).frames.size(), 13U);
}

TEST_F(EngineRuns, CallsFromAnotherThreadAreRefusedAndItsModelCanBeAsked) {
  Engine engine = open();
  const GenerateRequest base = request(engine);
  const Latents alone = engine.sample(base);
  std::atomic<bool> is_running = false;
  std::atomic<bool> may_go_on = false;
  StepObserver observer;
  observer.after_step = [&](const StepView&) {
    is_running = true;
    while (!may_go_on) std::this_thread::yield();
  };
  Latents latents;
  std::thread sampling([&] { latents = engine.sample(base, observer); });
  while (!is_running) std::this_thread::yield();
  EXPECT_THROW(engine.sample(base), Busy);
  EXPECT_THROW(decode(engine, alone), Busy);
  const ModelInfo model = engine.model();
  model.check(base);
  model.check_files(base);
  EXPECT_EQ(model.files().size(), 6U);
  EXPECT_EQ(model.latent_size({base.width, base.height, base.num_frames}).num_frames, 3);
  may_go_on = true;
  sampling.join();
  EXPECT_EQ(latents.values, alone.values);
}

TEST_F(EngineRuns, EncodesWhatItDecodes) {
  Engine engine = open();
  const Latents latents = engine.sample(request(engine));
  const Video video = decode(engine, latents);
  std::vector<std::uint8_t> rgb;
  for (const auto& frame : video.frames) rgb.insert(rgb.end(), frame.begin(), frame.end());
  const Latents encoded = engine.encode(rgb, engine.model().video_size(latents));
  EXPECT_EQ(std::tie(encoded.channels, encoded.num_frames, encoded.height, encoded.width),
            std::tie(latents.channels, latents.num_frames, latents.height, latents.width));
  EXPECT_EQ(encoded.values.size(), latents.values.size());
  rgb.pop_back();
  expect_contains(
      message_of<Error>([&] { engine.encode(rgb, engine.model().video_size(latents)); }),
      "rgb: wanted");
}

TEST_F(EngineRuns, OffloadingChangesNothing) {
  Engine engine = open();
  EngineOptions options{
      .model_dir = *folder_ / "model", .precision = Precision::kFp32, .num_threads = 1};
  options.cpu_offload = true;
  Engine frugal(options);
  int num_loaded = 0;
  StepObserver count;
  count.progress = [&](const Progress& progress) {
    if (progress.phase == Phase::kLoading && progress.num_done == 0) ++num_loaded;
    return true;
  };
  const GenerateRequest base = request(engine);
  EXPECT_EQ(frugal.sample(base, count).values, engine.sample(base).values);
  frugal.sample(base, count);
  EXPECT_EQ(num_loaded, 3);  // the transformer again; the text's features are stored
}

TEST_F(EngineRuns, ShardedFilesGiveTheSameVideo) {
  write_tiny_model(*folder_ / "sharded", golden_tokenizer(), true);
  Engine sharded(
      {.model_dir = *folder_ / "sharded", .precision = Precision::kFp32, .num_threads = 1});
  Engine whole = open();
  EXPECT_EQ(sharded.sample(request(sharded)).values, whole.sample(request(whole)).values);
  EXPECT_EQ(sharded.model().files().size(), whole.model().files().size() + 2);
}

TEST_F(EngineRuns, Bf16WeightsStayNear) {
  Engine exact = open();
  Engine rounded(
      {.model_dir = *folder_ / "model", .precision = Precision::kBf16, .num_threads = 1});
  EXPECT_EQ(rounded.info().precision, Precision::kBf16);
  const std::vector<float> want = exact.sample(request(exact)).values;
  const std::vector<float> got = rounded.sample(request(rounded)).values;
  double difference = 0;
  double norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    difference += std::pow(static_cast<double>(got[i]) - want[i], 2);
    norm += std::pow(static_cast<double>(want[i]), 2);
  }
  EXPECT_GT(difference, 0);
  EXPECT_LT(std::sqrt(difference / norm), 0.05);
}

// A LoRA of the tiny model's transformer, each entry of its change ±size.
std::filesystem::path write_lora(const TempFolder& folder, const std::string& name, float size) {
  const std::int64_t width = 32;
  write_tensors(folder / name,
                {{"blocks.0.attn.qkv_x.lora_A", {1, width}, std::vector<float>(32, size)},
                 {"blocks.0.attn.qkv_x.lora_B", {3 * width, 1}, std::vector<float>(96, 1.0F)}});
  return folder / name;
}

TEST_F(EngineRuns, LorasChangeTheResultByTheirScale) {
  const TempFolder folder;
  const std::filesystem::path one = write_lora(folder, "one.safetensors", 0.25F);
  const std::filesystem::path minus = write_lora(folder, "minus.safetensors", -0.5F);
  const auto sample = [](std::vector<Lora> loras) {
    Engine engine({.model_dir = *folder_ / "model",
                   .precision = Precision::kFp32,
                   .num_threads = 1,
                   .loras = std::move(loras)});
    GenerateRequest short_request = request(engine);
    short_request.num_steps = 1;
    short_request.linear_steps = 0;
    return engine.sample(short_request).values;
  };
  const std::vector<float> plain = sample({});
  const std::vector<float> changed = sample({{one}});
  EXPECT_NE(changed, plain);
  EXPECT_EQ(sample({{one, 0.0}}), plain);
  EXPECT_NE(sample({{one, 0.5}}), changed);
  EXPECT_EQ(sample({{minus, -0.5}}), changed);
  const std::vector<float> added = sample({{one, 2.0}, {minus, 0.5}});
  double difference = 0;
  double change = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    difference += std::pow(static_cast<double>(added[i]) - changed[i], 2);
    change += std::pow(static_cast<double>(plain[i]) - changed[i], 2);
  }
  EXPECT_LT(std::sqrt(difference / change), 1e-4);
}

TEST_F(EngineRuns, LorasAreCheckedBeforeAnythingIsLoaded) {
  const TempFolder folder;
  write_tensors(folder / "wide.safetensors",
                {{"blocks.0.attn.qkv_x.lora_A", {1, 8}, std::vector<float>(8)},
                 {"blocks.0.attn.qkv_x.lora_B", {24, 1}, std::vector<float>(24)}});
  const auto error_with = [](const std::filesystem::path& path) {
    return message_of<Error>([&] { Engine({.model_dir = *folder_ / "model", .loras = {{path}}}); });
  };
  expect_contains(error_with(folder / "wide.safetensors"),
                  "tensor 'blocks.0.attn.qkv_x.lora_A' in '");
  expect_contains(error_with(folder / "wide.safetensors"), "wanted shape [1, 32], found [1, 8]");
  expect_contains(error_with(folder / "none.safetensors"), "none.safetensors': no such file");
}

TEST_F(EngineRuns, ReportsEveryPhaseToItsEnd) {
  Engine engine = open();
  std::map<Phase, Progress> last;
  StepObserver record;
  record.progress = [&](const Progress& progress) {
    last[progress.phase] = progress;
    return true;
  };
  decode(engine, engine.sample(request(engine), record), record);
  ASSERT_EQ(last.size(), 4U);
  for (const auto& [phase, progress] : last) EXPECT_EQ(progress.num_done, progress.num_total);
  EXPECT_EQ(last[Phase::kSampling].num_total, 4);
  EXPECT_EQ(last[Phase::kDecoding].num_total, 13);
}

TEST_F(EngineRuns, CanBeCancelledInEveryPhaseAndUsedAgain) {
  Engine engine = open();
  const Latents latents = open().sample(request(engine));
  for (const Phase phase : {Phase::kLoading, Phase::kText, Phase::kSampling, Phase::kDecoding}) {
    StepObserver cancel;
    cancel.progress = [phase](const Progress& progress) {
      return !(progress.phase == phase && progress.num_done == 1);
    };
    EXPECT_THROW(decode(engine, engine.sample(request(engine), cancel), cancel), Cancelled);
  }
  EXPECT_EQ(engine.sample(request(engine)).values, latents.values);
}

TEST_F(EngineRuns, RefusedRequestsNameTheFieldAndTheNearestValues) {
  const GenerateRequest base = request(open());
  const auto error_with = [&](const auto& change) {
    GenerateRequest changed = base;
    change(changed);
    return check_error(changed);
  };
  EXPECT_EQ(error_with([](auto& r) { r.width = 100; }),
            "width: wanted a multiple of 16, found 100; the nearest are 96 and 112");
  EXPECT_EQ(error_with([](auto& r) { r.height = 7; }),
            "height: wanted a multiple of 16 from 16 to 16384, found 7");
  EXPECT_EQ(error_with([](auto& r) { r.num_frames = 42; }),
            "num_frames: wanted 6·k + 1, found 42; the nearest are 37 and 43");
  expect_contains(error_with([](auto& r) { r.num_frames = -5; }),
                  "num_frames: wanted 6·k + 1 from 1");
  expect_contains(error_with([](auto& r) { r.num_steps = 0; }), "num_steps: wanted 1 to");
  expect_contains(error_with([](auto& r) { r.cfg_scale = NAN; }), "cfg_scale: wanted a finite");
  expect_contains(error_with([](auto& r) { r.cfg_schedule = {1, 2}; }),
                  "cfg_schedule: wanted 4 values");
  expect_contains(error_with([](auto& r) { r.prompt = "\xff"; }), "prompt: not valid UTF-8");
  expect_contains(error_with([](auto& r) { r.initial_noise = {1.0F}; }),
                  "initial_noise: wanted 1728 values");
  EXPECT_EQ(error_with([](auto& r) {
              r.initial_noise.assign(1728, 0.0F);
              r.initial_noise[7] = NAN;
            }),
            "initial_noise: wanted finite values, found nan at index 7");
}

TEST_F(EngineRuns, RefusesBadOptionsAndLatents) {
  EXPECT_EQ(message_of<InvalidRequest>(
                [&] { Engine({.model_dir = *folder_ / "model", .num_threads = -1}); }),
            "num_threads: wanted 0 (all) or more, found -1");
  const auto refused_field = [&](const EngineOptions& options) {
    try {
      const ModelInfo model(options);
      return std::string("none");
    } catch (const InvalidRequest& error) {
      return error.field();
    }
  };
  EXPECT_EQ(refused_field({.model_dir = *folder_ / "model", .device = DeviceKind{99}}), "device");
  EXPECT_EQ(refused_field({.model_dir = *folder_ / "model", .precision = Precision{99}}),
            "precision");
  EXPECT_EQ(refused_field({.model_dir = *folder_ / "model", .random_weights = RandomWeights{99}}),
            "random_weights");
  Engine engine = open();
  GenerateRequest strange = request(engine);
  strange.noise_source = NoiseSource{99};
  EXPECT_EQ(message_of<InvalidRequest>([&] { engine.sample(strange); }),
            "noise_source: wanted a value of its type, found 99");
  EXPECT_EQ(message_of<InvalidRequest>(
                [&] { engine.decode({std::vector<float>(48), 12, 1, 2, 2}, FrameSink()); }),
            "sink: wanted a function, found none");
  const auto decode_error = [&](const Latents& latents) {
    return message_of<InvalidRequest>([&] { decode(engine, latents); });
  };
  expect_contains(
      decode_error({.values = {}, .channels = 3, .num_frames = 1, .height = 2, .width = 2}),
      "latents: wanted [12");
  expect_contains(
      decode_error({.values = {1, 2}, .channels = 12, .num_frames = 1, .height = 2, .width = 2}),
      "latents: wanted 48 values");
  Latents broken{std::vector<float>(48), 12, 1, 2, 2};
  broken.values[5] = INFINITY;
  EXPECT_EQ(decode_error(broken), "latents: wanted finite values, found inf at index 5");
}

TEST_F(EngineRuns, AnEngineThatWasMovedIsRefused) {
  Engine engine = open();
  const GenerateRequest base = request(engine);
  Engine other = std::move(engine);
  EXPECT_EQ(other.info().device, DeviceKind::kCpu);
  for (const auto& call : std::initializer_list<std::function<void()>>{
           [&] { engine.sample(base); }, [&] { engine.info(); }, [&] { engine.model(); }}) {
    EXPECT_EQ(message_of<Error>(call), "the engine was moved to another object and cannot be used");
  }
}

TEST_F(EngineRuns, FingerprintsOfDifferentFilesDiffer) {
  const std::vector<ModelFile> files = open().model().files();
  EXPECT_EQ(files.size(), 6U);
  for (const ModelFile& file : files) EXPECT_EQ(file.fingerprint.size(), 16U) << file.name;
  const std::string content(2'000'000, 'x');
  const TempFolder folder;
  const std::string whole = fingerprint_file(folder.write("a", content));
  EXPECT_EQ(fingerprint_file(folder.write("b", content)), whole);
  EXPECT_NE(fingerprint_file(folder.write("b", content + "x")), whole);
  std::string changed = content;
  changed.back() = 'y';
  EXPECT_NE(fingerprint_file(folder.write("b", changed)), whole);
}

TEST(SamplingDefaults, HalfTheStepsFollowsTheNumberOfSteps) {
  const TempFolder folder;
  write_tiny_model(folder / "model", golden_tokenizer());
  const Engine engine({.model_dir = folder / "model"});
  GenerateRequest request = engine.model().default_request();
  EXPECT_EQ(request.num_steps, 4);
  request.num_steps = 2;  // fewer than the model's linear steps would allow
  engine.model().check(request);
}

}  // namespace
}  // namespace mochi
