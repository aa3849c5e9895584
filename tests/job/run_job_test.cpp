// Whole jobs on the bundled model, as small and short as it can be.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/image.h"
#include "job/checkpoint_file.h"
#include "job/job.h"
#include "job/latents_file.h"
#include "job/output_path.h"
#include "job/pictures.h"

namespace mochi::job {
namespace {

namespace fs = std::filesystem;

// Ends the work at the n-th report of a phase, and remembers what it is told.
class TestObserver : public JobObserver {
 public:
  bool should_stop() override { return stops; }
  void on_step(const StepView& view) override {
    stops = stops_after_sampling && view.num_done() == view.num_steps();
  }
  bool on_progress(const Progress& progress) override {
    return !stop_phase || progress.phase != *stop_phase || progress.num_done < stop_at;
  }
  void on_frame(std::span<const std::uint8_t> rgb, std::int64_t frame_idx,
                const VideoSize& size) override {
    if (frame_idx == 0) num_frames = 0;
    EXPECT_EQ(frame_idx, num_frames++);
    EXPECT_EQ(std::ssize(rgb), std::int64_t{3} * size.width * size.height);
    if (pictures != nullptr) pictures->add(rgb, frame_idx, size);
  }
  void on_warning(std::string_view text) override { warnings.emplace_back(text); }
  void on_kept(const Kept& what) override { kept = what; }

  std::optional<Phase> stop_phase;
  int stop_at = 1;
  bool stops_after_sampling = false;
  bool stops = false;
  std::int64_t num_frames = 0;
  Pictures* pictures = nullptr;
  std::vector<std::string> warnings;
  std::optional<Kept> kept;
};

class RunJob : public testing::Test {
 protected:
  static EngineOptions engine_options() {
    EngineOptions options;
    options.model_dir = MOCHI_MICRO_DIR;
    return options;
  }

  JobOptions make_options(const std::string& output) const {
    JobOptions options;
    options.request.prompt = "a red ball";
    options.request.width = 64;
    options.request.height = 48;
    options.request.num_frames = 7;
    options.request.num_steps = 4;
    options.engine = engine_options();
    if (!output.empty()) options.output = folder_ / output;
    options.out_dir = folder_ / "videos";
    return options;
  }

  Job prepare(const JobOptions& options, bool continues = false) {
    return prepare_job({.options = options, .continues = continues}, engine_.model(), run_);
  }
  Outcome run(const Job& job) { return run_job(job, engine_, observer_, {folder_ / "rescue"}); }

  std::string prepare_error(const JobOptions& options) {
    job::Run fresh(engine_);
    return message_of<Error>([&] { prepare_job({.options = options}, engine_.model(), fresh); });
  }

  std::string content(const std::string& name) const { return read_text(folder_ / name); }
  // Resumes as a face does.
  JobInput resume(JobOptions options, const fs::path& checkpoint) const {
    SamplingCheckpoint read = read_checkpoint(checkpoint);
    return {.options = std::move(options),
            .start = std::move(read.state),
            .checkpoint = checkpoint,
            .checkpoint_recipe = std::move(read.recipe)};
  }

  TempFolder folder_;
  Engine engine_{engine_options()};
  job::Run run_{engine_};
  TestObserver observer_;
};

TEST_F(RunJob, WritesTheVideoAndItsJson) {
  const Outcome outcome = run(prepare(make_options("v.y4m")));
  EXPECT_EQ(outcome.output, folder_ / "v.y4m");
  EXPECT_EQ(outcome.size.num_frames, 7);
  EXPECT_GT(outcome.seconds.at(Phase::kSampling), 0);
  EXPECT_EQ(read_json(folder_ / "v.y4m.json"), Json(outcome.sidecar));
  EXPECT_EQ(folder_.num_entries(), 2U);
  EXPECT_TRUE(observer_.warnings.empty());
}

TEST_F(RunJob, GivesItsObserverEachFrame) {
  Pictures pictures({folder_ / "t.jpg", folder_ / "s.jpg"},
                    [](std::string_view text) { ADD_FAILURE() << text; });
  observer_.pictures = &pictures;
  run(prepare(make_options("v.y4m")));
  EXPECT_EQ(observer_.num_frames, 7);
  EXPECT_EQ(read_image(folder_ / "t.jpg").width, 64);
  EXPECT_EQ(read_image(folder_ / "s.jpg").width, 4 * 64);
}

TEST_F(RunJob, AVideoIsMadeAgainFromItsJson) {
  run(prepare(make_options("v.y4m")));
  const Recipe recipe = parse_recipe(read_json(folder_ / "v.y4m.json"), "v.y4m.json");
  JobOptions options;
  options.request = recipe.request;
  options.engine = recipe.engine;
  options.output = folder_ / "w.y4m";
  run(prepare(options));
  EXPECT_EQ(content("v.y4m"), content("w.y4m"));
}

TEST_F(RunJob, StoppedWhileSamplingItIsResumedToTheSameVideo) {
  run(prepare(make_options("whole.y4m")));
  JobOptions options = make_options("v.y4m");
  options.checkpoint_every = 3;
  observer_.stop_phase = Phase::kSampling;
  EXPECT_THROW(run(prepare(options)), Cancelled);
  const fs::path checkpoint = folder_ / "v.y4m.checkpoint.safetensors";
  ASSERT_TRUE(observer_.kept);
  EXPECT_EQ(observer_.kept->kind, Kept::Kind::kCheckpoint);
  EXPECT_EQ(observer_.kept->file, checkpoint);
  observer_.stop_phase.reset();
  job::Run again(engine_);
  run(prepare_job(resume(options, checkpoint), engine_.model(), again));
  EXPECT_EQ(content("v.y4m"), content("whole.y4m"));
  EXPECT_FALSE(fs::exists(checkpoint));
}

TEST_F(RunJob, StoppedWithoutCheckpointsNothingIsLeft) {
  observer_.stop_phase = Phase::kSampling;
  EXPECT_THROW(run(prepare(make_options("v.y4m"))), Cancelled);
  EXPECT_FALSE(observer_.kept);
  EXPECT_EQ(folder_.num_entries(), 0U);
}

TEST_F(RunJob, ACheckpointContinuesNoOtherVideo) {
  JobOptions options = make_options("v.y4m");
  options.checkpoint_every = 1;
  observer_.stop_phase = Phase::kSampling;
  EXPECT_THROW(run(prepare(options)), Cancelled);
  options.request.seed = 3;
  job::Run again(engine_);
  JobInput input = resume(options, folder_ / "v.y4m.checkpoint.safetensors");
  expect_contains(message_of<Error>([&] { prepare_job(std::move(input), engine_.model(), again); }),
                  "the checkpoint's video has seed 0, wanted is 3");
}

TEST_F(RunJob, StoppedWhileDecodingTheLatentsAreKept) {
  run(prepare(make_options("whole.y4m")));
  observer_.stop_phase = Phase::kDecoding;
  EXPECT_THROW(run(prepare(make_options("v.y4m"))), Cancelled);
  ASSERT_TRUE(observer_.kept);
  EXPECT_EQ(observer_.kept->kind, Kept::Kind::kLatents);
  EXPECT_EQ(observer_.kept->file, folder_ / "v.y4m.latents.safetensors");
  EXPECT_FALSE(fs::exists(folder_ / "v.y4m"));
  observer_.stop_phase.reset();
  JobOptions options;
  options.latents_file = observer_.kept->file;
  options.engine = engine_options();
  options.output = folder_ / "v.y4m";
  job::Run again(engine_);
  run(prepare_job({.options = options}, engine_.model(), again));
  EXPECT_EQ(content("v.y4m"), content("whole.y4m"));
}

TEST_F(RunJob, IfAFolderDisappearsTheLatentsAreKept) {
  fs::create_directory(folder_ / "out");
  fs::create_directory(folder_ / "rescue");
  const Job job = prepare(make_options("out/v.y4m"));
  fs::remove_all(folder_ / "out");
  EXPECT_THROW(run(job), Error);
  ASSERT_TRUE(observer_.kept);
  EXPECT_EQ(observer_.kept->file, folder_ / "rescue/v.y4m.latents.safetensors");
  const LatentsFile latents = read_latents_file(observer_.kept->file);
  EXPECT_EQ(latents.latents.num_frames, 2);
  EXPECT_TRUE(latents.recipe(observer_.kept->file));
}

TEST_F(RunJob, LatentsForAPipeThatNobodyReadsAreKeptElsewhereWhenTheRunIsStopped) {
  JobOptions options = make_options("v.y4m");
  options.save_latents = folder_.make_fifo();
  observer_.stops_after_sampling = true;
  EXPECT_THROW(run(prepare(options)), Cancelled);
  EXPECT_TRUE(observer_.warnings.empty());
  ASSERT_TRUE(observer_.kept);
  EXPECT_EQ(observer_.kept->file, folder_ / "v.y4m.latents.safetensors");
}

TEST_F(RunJob, PreparingIsStoppedWhereItWaits) {
  JobInput input{
      .options = make_options("v.y4m"),
      .source = {.name = "s.jsonl:2", .prefix = "", .fields = {"width"}, .is_line = true}};
  input.options.request.chipmunk_config = folder_.make_fifo();
  job::Run stopped(engine_, [] { return true; });
  EXPECT_THROW(prepare_job(input, engine_.model(), stopped), Cancelled);
}

TEST_F(RunJob, KeptLatentsReplaceNoOtherFile) {
  folder_.write("v.y4m.latents.safetensors", "somebody's");
  observer_.stop_phase = Phase::kDecoding;
  EXPECT_THROW(run(prepare(make_options("v.y4m"))), Cancelled);
  EXPECT_EQ(observer_.kept->file, folder_ / "v.y4m.latents-2.safetensors");
  EXPECT_EQ(content("v.y4m.latents.safetensors"), "somebody's");
}

TEST_F(RunJob, SecondaryFilesNeverCostTheVideo) {
  fs::create_directory(folder_ / "gone");
  JobOptions options = make_options("v.y4m");
  options.save_latents = folder_ / "gone/l.safetensors";
  options.checkpoint_every = 1;
  const Job job = prepare(options);
  fs::remove_all(folder_ / "gone");
  fs::create_directory(folder_ / "v.y4m.checkpoint.safetensors");  // cannot be replaced by a file
  fs::create_directory(folder_ / "v.y4m.json");
  run(job);
  EXPECT_TRUE(fs::exists(folder_ / "v.y4m"));
  ASSERT_EQ(observer_.warnings.size(), 3U);
  expect_contains(observer_.warnings[0], "no checkpoint after step 1");
  expect_contains(observer_.warnings[1], "the latents are not saved");
  expect_contains(observer_.warnings[2], "the video is complete, its JSON is not");
}

TEST_F(RunJob, NoOutputIsAnInputOrAnotherOutput) {
  run(prepare(make_options("first.y4m")));
  JobOptions options = make_options("l.y4m");
  options.save_latents = folder_ / "l.safetensors";
  run(prepare(options));

  options = make_options("v.y4m");
  options.request = {};
  options.request.prompt = "x";
  options.request.noise = folder_ / "l.safetensors";
  options.save_latents = folder_ / "./l.safetensors";
  expect_contains(prepare_error(options), "save_latents: ");
  expect_contains(prepare_error(options), "is the start noise");
  options = make_options("v.y4m");
  options.save_latents = folder_ / "v.y4m.json";
  expect_contains(prepare_error(options), "is also written for");
  options.save_latents = folder_ / "v.y4m";
  expect_contains(prepare_error(options), "is also written for");
  options.save_latents = fs::path(MOCHI_MICRO_DIR) / "decoder.safetensors";
  expect_contains(prepare_error(options), "is a file of the model");
}

TEST_F(RunJob, TwoVideosOfARunDoNotShareAFile) {
  prepare(make_options("v.y4m"));
  const JobOptions other = make_options("./v.y4m");
  expect_contains(message_of<InvalidRequest>([&] { prepare(other); }), "out: ");
}

TEST_F(RunJob, FilesThatNobodyNamedAreNotReplaced) {
  folder_.write("v.y4m.json", R"({"my": "notes"})");
  expect_contains(prepare_error(make_options("v.y4m")), "v.y4m.json' exists and is not the JSON");
  JobOptions options = make_options("w.y4m");
  options.checkpoint_every = 1;
  folder_.write("w.y4m.checkpoint.safetensors", "an unfinished run");
  expect_contains(prepare_error(options), "belongs to an unfinished run");
}

TEST_F(RunJob, NamesThatJsonCannotHoldAreRefusedBeforeTheWork) {
  expect_contains(prepare_error(make_options("caf\xe9.y4m")), "wanted a name in UTF-8");
  EXPECT_EQ(folder_.num_entries(), 0U);
}

TEST_F(RunJob, ErrorsOfALineNameTheLine) {
  JobInput input{
      .options = make_options("none/v.y4m"),
      .source = {.name = "s.jsonl:2", .prefix = "", .fields = {"width"}, .is_line = true}};
  const auto error_of = [&](const JobInput& each) {
    return message_of<Error>([&] { prepare_job(each, engine_.model(), run_); });
  };
  expect_contains(error_of(input), "s.jsonl:2: cannot write");
  input.options.request.width = 20;
  expect_contains(error_of(input), "s.jsonl:2: width: wanted a multiple of 16");
  input.source.fields = {};
  EXPECT_EQ(error_of(input).find("width: wanted"), 0U);  // of the caller's own value
}

TEST_F(RunJob, ASweepIsContinuedWhereItEnded) {
  const JobOptions first = make_options("");
  JobOptions second = make_options("");
  second.request.seed = 1;
  second.checkpoint_every = 1;
  run(prepare(first, true));
  const std::string video = content("videos/a-red-ball-0.mp4");
  observer_.stop_phase = Phase::kSampling;
  observer_.stop_at = 2;
  EXPECT_THROW(run(prepare(second, true)), Cancelled);

  run_ = job::Run(engine_);
  const Job made = prepare(first, true);
  EXPECT_TRUE(made.is_done);
  EXPECT_EQ(made.output, folder_ / "videos/a-red-ball-0.mp4");
  const Job resumed = prepare(second, true);
  EXPECT_FALSE(resumed.is_done);
  EXPECT_EQ(resumed.output, folder_ / "videos/a-red-ball-1.mp4");
  ASSERT_TRUE(resumed.input.start);
  EXPECT_EQ(resumed.input.start->num_steps_done, 2);
  const Job twice = prepare(first, true);  // an equal line further down is a separate video
  EXPECT_FALSE(twice.is_done);
  EXPECT_EQ(twice.output, folder_ / "videos/a-red-ball-0-2.mp4");
}

}  // namespace
}  // namespace mochi::job
