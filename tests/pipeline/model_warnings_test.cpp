#include "pipeline/model_warnings.h"

#include <gtest/gtest.h>

#include "base/temp_folder.h"
#include "pipeline/request.h"
#include "pipeline/tiny_model.h"

namespace mochi {
namespace {

class ModelWarnings : public testing::Test {
 protected:
  ModelWarnings() {
    write_tiny_model(folder_.path(),
                     std::filesystem::path(MOCHI_GOLDEN_DIR) / "tokenizer" / "spiece.model");
    Json config = Json::parse(kTinyConfig);
    config["trained_on"] = {{"width", {64, 96}},
                            {"height", {48, 48}},
                            {"num_frames", {7, 13}},
                            {"words", {"red", "a", "ball", "moves"}}};
    folder_.write("config.json", config.dump());
  }
  std::vector<std::string> warnings(const GenerateRequest& request) const {
    return model_warnings(ModelDirectory(folder_.path()), request);
  }
  GenerateRequest request() const {
    GenerateRequest request =
        make_default_request(ModelDirectory(folder_.path()).config().generation);
    request.prompt = "A red, red ball moves!";
    return request;
  }

  const TempFolder folder_;
};

using Lines = std::vector<std::string>;

TEST_F(ModelWarnings, NoneWithinTheTrainingData) {
  EXPECT_EQ(warnings(request()), Lines{});
  GenerateRequest other = request();
  other.width = 96;
  other.num_frames = 7;
  other.prompt = "";
  EXPECT_EQ(warnings(other), Lines{});
}

TEST_F(ModelWarnings, SizesAndFrames) {
  GenerateRequest other = request();
  other.width = 112;
  other.num_frames = 19;
  EXPECT_EQ(warnings(other), (Lines{"this model was trained on videos of 64 to 96 x 48 pixels, not "
                                    "112 x 48: they may look wrong",
                                    "this model was trained on videos of 7 to 13 frames, not 19: "
                                    "objects may vanish or jump"}));
}

TEST_F(ModelWarnings, WordsOfBothPrompts) {
  GenerateRequest other = request();
  other.prompt = "a red cat moves; the cat";
  other.negative_prompt = "one two three four five \x1b[2Jsix seven";
  EXPECT_EQ(warnings(other),
            (Lines{"prompt: this model was not trained on the words 'cat', 'the'",
                   "negative_prompt: this model was not trained on the words 'one', 'two', "
                   "'three', 'four', 'five' and 2 more"}));
}

TEST_F(ModelWarnings, APromptThatIsCut) {
  GenerateRequest other = request();
  other.prompt = "red";
  for (int i = 0; i < 40; ++i) other.prompt += " ball moves";
  other.negative_prompt = other.prompt;
  const Lines lines = warnings(other);
  ASSERT_EQ(lines.size(), 2U);
  const std::size_t at = lines[0].find("the model reads 32: the text is cut at '");
  EXPECT_NE(at, std::string::npos) << lines[0];
  EXPECT_EQ(lines[0].find("prompt: has "), 0U);
  EXPECT_EQ(lines[1], "negative_" + lines[0]);
}

TEST_F(ModelWarnings, ModelsThatStateNothingCauseNoWarnings) {
  folder_.write("config.json", kTinyConfig);
  GenerateRequest other = request();
  other.prompt = "zebra";
  other.width = 256;
  EXPECT_EQ(warnings(other), Lines{});
}

}  // namespace
}  // namespace mochi
