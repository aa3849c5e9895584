#include "text/t5_encoder.h"

#include "text/t5_golden.h"

namespace mochi {
namespace {

const std::filesystem::path kFormats = std::filesystem::path(MOCHI_GOLDEN_DIR) / "formats";

class T5Cases : public testing::TestWithParam<int> {};

TEST_P(T5Cases, MatchesTransformers) {
  const T5Golden model("t5/weights");
  const T5Golden golden("t5/tokens" + std::to_string(GetParam()));
  const std::vector<float> want = golden.values("output.features");
  const auto got = run_t5(model.weights(), model.config(), golden.ids());
  EXPECT_LE(relative_error(got, want), 1e-5);
  const auto bf16 = run_t5(model.weights(), model.config(), golden.ids(), DType::kBF16);
  const double error = relative_error(bf16, want);
  EXPECT_LE(error, 1.2 * golden.values("bf16_error.features")[0]);
  EXPECT_GT(error, 1e-5) << "the weights have not been rounded";
}

INSTANTIATE_TEST_SUITE_P(NumTokens, T5Cases, testing::Values(1, 7, 77, 256));

class T5GoldenOn : public OnDevice {};

TEST_P(T5GoldenOn, MatchesTransformers) {
  const T5Golden model("t5/weights");
  for (const int num_tokens : {1, 7, 77, 256}) {
    const T5Golden golden("t5/tokens" + std::to_string(num_tokens));
    const auto got = run_t5(model.weights(), model.config(), golden.ids(), dtype(), make());
    const double error = relative_error(got, golden.values("output.features"));
    record_error("tokens" + std::to_string(num_tokens), error);
    // On an H100 the error is 1.12 times PyTorch's.
    EXPECT_LE(error, dtype() == DType::kF32 ? 1e-5 : golden.bf16_limit("features", 1.15))
        << num_tokens;
  }
}

INSTANTIATE_TEST_SUITE_P(Gpu, T5GoldenOn, cuda_backends(), name_of_case);

TEST(T5Formats, ShardedAndOneFile) {
  const T5Golden golden("formats/t5_case");
  const struct {
    const char* path;
    const char* output;
  } cases[] = {
      {"t5_sharded", "output.features"},
      {"t5_one_file_f16.safetensors", "output.features.f16"},
      {"t5_one_file_f8_e4m3.safetensors", "output.features.f8_e4m3"},
  };
  for (const auto& [path, output] : cases) {
    const auto checkpoint = Checkpoint::open(kFormats / path);
    EXPECT_LE(
        relative_error(run_t5(checkpoint, golden.config(), golden.ids()), golden.values(output)),
        1e-5)
        << path;
    // One of the two names of the token table may remain unread, nothing else.
    const auto source = make_t5_source(checkpoint, golden.config());
    EXPECT_EQ(source->unread(), std::vector<std::string>{}) << path;
  }
}

TEST(T5Weights, ListsTheTensorsOfTheCheckpoint) {
  const T5Golden model("t5/weights");
  T5Weights weights(model.config());
  std::int64_t num_listed = 0;
  for (const auto& [name, shape] : list_parameters(weights)) num_listed += shape.num_elements();
  std::int64_t num_stored = 0;
  for (const std::string& name : model.weights()->names()) {
    num_stored += model.weights()->info(name).shape.num_elements();
  }
  EXPECT_EQ(num_listed, num_stored);
}

TEST(RelativePositionBucket, SplitsByDirectionAndDistance) {
  // 32 buckets, maximum distance 128: 0…7 exact, then logarithmic, 15 at the far end; 16 more for
  // keys after the query.
  const auto bucket = [](std::int64_t distance) {
    return relative_position_bucket(distance, 32, 128);
  };
  EXPECT_EQ(bucket(0), 0);
  EXPECT_EQ(bucket(-1), 1);
  EXPECT_EQ(bucket(-7), 7);
  EXPECT_EQ(bucket(-8), 8);
  EXPECT_EQ(bucket(-11), 8);
  EXPECT_EQ(bucket(-12), 9);
  EXPECT_EQ(bucket(-127), 15);
  EXPECT_EQ(bucket(-5000), 15);
  EXPECT_EQ(bucket(1), 17);
  EXPECT_EQ(bucket(7), 23);
  EXPECT_EQ(bucket(64), 16 + 14);
  EXPECT_EQ(bucket(5000), 31);
}

TEST(TextEncoderConfig, IsInferredFromShapes) {
  const T5Golden model("t5/weights");
  const TextEncoderConfig want = model.config();
  const TextEncoderConfig got = infer_text_encoder_config(*model.weights());
  EXPECT_EQ(got.num_layers, want.num_layers);
  EXPECT_EQ(got.hidden_size, want.hidden_size);
  EXPECT_EQ(got.num_heads, want.num_heads);
  EXPECT_EQ(got.head_dim, want.head_dim);
  EXPECT_EQ(got.feed_forward_size, want.feed_forward_size);
  EXPECT_EQ(got.num_buckets, want.num_buckets);
  EXPECT_EQ(got.vocab_size, want.vocab_size);
}

}  // namespace
}  // namespace mochi
