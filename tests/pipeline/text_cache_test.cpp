#include "pipeline/text_cache.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "mochi/mochi.h"
#include "pipeline/step_observer.h"
#include "pipeline/tiny_model.h"
#include "support/test_data.h"

namespace mochi {
namespace {

Tensor features_of(float value) {
  Tensor features(DType::kF32, {1, 1});
  features.view().f32()[0] = value;
  return features;
}

TEST(TextCacheTest, ForgetsTheTextWhoseUseIsTheLongestAgo) {
  TextCache cache;
  EXPECT_EQ(cache.find("0"), nullptr);
  const int num_texts = static_cast<int>(kMaxEncodedPrompts);
  for (int i = 0; i < num_texts; ++i)
    cache.add(std::to_string(i), features_of(static_cast<float>(i)));
  ASSERT_NE(cache.find("0"), nullptr);
  EXPECT_EQ(cache.find("0")->view().f32()[0], 0.0F);
  cache.add("new", features_of(-1));
  EXPECT_EQ(cache.find("1"), nullptr);
  ASSERT_NE(cache.find("0"), nullptr);
  EXPECT_EQ(cache.find("0")->view().f32()[0], 0.0F);
  EXPECT_EQ(cache.find("new")->view().f32()[0], -1.0F);
  for (int i = 2; i < num_texts; ++i) {
    ASSERT_NE(cache.find(std::to_string(i)), nullptr) << i;
    EXPECT_EQ(cache.find(std::to_string(i))->view().f32()[0], static_cast<float>(i));
  }
}

// Counts loaded text encoders and encoded texts.
struct TextObserver : Observer {
  bool on_progress(const Progress& progress) override {
    if (progress.phase == Phase::kLoading && progress.num_done == 0) {
      num_loaded += progress.item == "text encoder" ? 1 : 0;
    }
    if (progress.phase == Phase::kText && progress.num_done > 0) ++num_texts;
    return !(progress.phase == Phase::kText && progress.num_done == stop_at);
  }

  int num_loaded = 0, num_texts = 0;
  int stop_at = -1;
};

class EncodedPrompts : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    write_tiny_model(*folder_ / "model", golden_tokenizer());
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static Engine open() {
    return Engine({.model_dir = *folder_ / "model",
                   .precision = Precision::kFp32,
                   .num_threads = 1,
                   .cpu_offload = true});
  }
  static GenerateRequest request(const std::string& prompt) {
    GenerateRequest request = open().model().default_request();
    request.prompt = prompt;
    request.negative_prompt = "grey";
    request.num_frames = 1;
    request.num_steps = 2;
    request.linear_steps = 1;
    return request;
  }
  static std::vector<float> fresh_sample(const GenerateRequest& request) {
    return open().sample(request).values;
  }

  static inline std::unique_ptr<TempFolder> folder_;
  TextObserver observer_;
};

TEST_F(EncodedPrompts, ASecondSamplingLoadsNoTextEncoder) {
  Engine engine = open();
  GenerateRequest first = request("a red ball");
  EXPECT_EQ(engine.sample(first, observer_).values, fresh_sample(first));
  EXPECT_EQ(observer_.num_loaded, 1);
  EXPECT_EQ(observer_.num_texts, 2);
  first.seed = 5;
  EXPECT_EQ(engine.sample(first, observer_).values, fresh_sample(first));
  EXPECT_EQ(observer_.num_loaded, 1);
  EXPECT_EQ(observer_.num_texts, 2);
  const GenerateRequest other = request("a blue cube");  // and the same negative prompt
  EXPECT_EQ(engine.sample(other, observer_).values, fresh_sample(other));
  EXPECT_EQ(observer_.num_loaded, 2);
  EXPECT_EQ(observer_.num_texts, 3);
}

TEST_F(EncodedPrompts, AreEncodedAhead) {
  Engine engine = open();
  engine.encode_prompts(std::array<std::string, 5>{"a red ball", "grey", "", "a blue cube", "grey"},
                        observer_);
  EXPECT_EQ(observer_.num_loaded, 1);
  EXPECT_EQ(observer_.num_texts, 3);
  for (const char* const prompt : {"a red ball", "a blue cube", ""}) {
    const GenerateRequest each = request(prompt);
    EXPECT_EQ(engine.sample(each, observer_).values, fresh_sample(each));
  }
  EXPECT_EQ(observer_.num_loaded, 1);
  EXPECT_EQ(observer_.num_texts, 3);
}

TEST_F(EncodedPrompts, NoneNeedNoTextEncoder) {
  Engine engine = open();
  engine.encode_prompts(std::array<std::string, 1>{""}, observer_);
  engine.encode_prompts({}, observer_);
  EXPECT_EQ(observer_.num_loaded, 0);
}

TEST_F(EncodedPrompts, ThoseBeforeAnInterruptionAreStored) {
  Engine engine = open();
  const std::array<std::string, 3> prompts{"a red ball", "grey", "a blue cube"};
  observer_.stop_at = 1;
  EXPECT_THROW(engine.encode_prompts(prompts, observer_), Cancelled);
  observer_ = {};
  engine.encode_prompts(prompts, observer_);
  EXPECT_EQ(observer_.num_texts, 2);
  const GenerateRequest first = request("a red ball");
  EXPECT_EQ(engine.sample(first, observer_).values, fresh_sample(first));
  EXPECT_EQ(observer_.num_texts, 2);
}

TEST_F(EncodedPrompts, AreRefusedByTheirName) {
  Engine engine = open();
  const std::vector<std::string> many(kMaxEncodedPrompts + 1, "a red ball");
  EXPECT_EQ(message_of<InvalidRequest>([&] { engine.encode_prompts(many); }),
            "prompts: wanted at most 16, found 17");
  EXPECT_EQ(message_of<InvalidRequest>(
                [&] { engine.encode_prompts(std::array<std::string, 2>{"a", "b\xff"}); }),
            "prompts: not valid UTF-8 at byte 1");
}

TEST_F(EncodedPrompts, AreRefusedDuringAnotherCall) {
  Engine engine = open();
  StepObserver outer;
  bool is_refused = false;
  outer.after_step = [&](const StepView&) {
    try {
      engine.encode_prompts({});
    } catch (const Busy&) {
      is_refused = true;
    }
  };
  engine.sample(request("a red ball"), outer);
  EXPECT_TRUE(is_refused);
}

}  // namespace
}  // namespace mochi
