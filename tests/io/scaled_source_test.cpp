#include "io/scaled_source.h"

#include <gtest/gtest.h>

#include <deque>
#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/checkpoint.h"

namespace mochi {
namespace {

// E4M3 codes of 1, 2, -0.5, 4.
const std::vector<std::uint8_t> kCodes{0x38, 0x40, 0xb0, 0x48};

class Scaled : public testing::Test {
 protected:
  void add(const std::string& name, DType dtype, const Shape& shape,
           std::span<const std::byte> bytes) {
    tensors_.push_back({name, dtype, shape, bytes});
  }
  void add_weight(const std::string& name = "a.weight") {
    add(name, DType::kF8E4M3, {2, 2}, std::as_bytes(std::span(kCodes)));
  }
  void add_floats(const std::string& name, const Shape& shape, std::vector<float> values) {
    const auto& kept = values_.emplace_back(std::move(values));
    add(name, DType::kF32, shape, std::as_bytes(std::span(kept)));
  }
  // The writer knows no I8: open_file() changes the type in the header.
  void add_integers(const std::vector<std::int8_t>& values) {
    add("a.weight", DType::kU8, {2, 2}, std::as_bytes(std::span(values)));
  }
  void add_text(const std::string& name, std::string text) {
    const auto& kept = texts_.emplace_back(std::move(text));
    add(name, DType::kU8, {std::ssize(kept)}, std::as_bytes(std::span(kept)));
  }
  void open_file(const std::map<std::string, std::string>& metadata) {
    write_safetensors(folder_ / "x.safetensors", tensors_, metadata);
    tensors_.clear();
    std::string content = read_text(folder_ / "x.safetensors");
    const std::string found = R"("a.weight":{"dtype":"U8")";
    if (const std::size_t at = content.find(found); at != std::string::npos) {
      content.replace(at, found.size(), R"("a.weight":{"dtype":"I8")");
      folder_.write("x.safetensors", content);
    }
    checkpoint_ = Checkpoint::open(folder_ / "x.safetensors");
  }
  std::shared_ptr<TensorSource> open(const std::map<std::string, std::string>& metadata = {}) {
    open_file(metadata);
    return with_scales(checkpoint_);
  }
  std::string error_of(const std::map<std::string, std::string>& metadata = {}) {
    const std::string message = message_of<Error>([&] { open(metadata); });
    expect_contains(message, "x.safetensors'");
    return message;
  }
  static std::vector<float> read(const TensorSource& source, const std::string& name) {
    std::vector<float> values(static_cast<std::size_t>(source.info(name).shape.num_elements()));
    source.read_f32(name, values);
    return values;
  }

  const TempFolder folder_;
  std::vector<NamedTensor> tensors_;
  std::deque<std::vector<float>> values_;
  std::deque<std::string> texts_;
  std::shared_ptr<Checkpoint> checkpoint_;
};

TEST_F(Scaled, OneScaleForATensor) {
  for (const char* ending : {"scale_weight", "weight_scale"}) {
    for (const Shape& shape : {Shape{}, Shape{1}, Shape{1, 1}}) {
      add_weight();
      add_floats(std::string("a.") + ending, shape, {0.25F});
      add_floats("a.scale_input", {}, {7.0F});
      add("scaled_fp8", DType::kF8E4M3, {0}, {});
      add_floats("b.bias", {1}, {3.0F});
      const auto source = open();
      EXPECT_EQ(read(*source, "a.weight"), (std::vector<float>{0.25F, 0.5F, -0.125F, 1.0F}));
      EXPECT_EQ(read(*source, "b.bias"), (std::vector<float>{3.0F}));
      EXPECT_EQ(source->names(), (std::vector<std::string>{"a.weight", "b.bias"}));
      EXPECT_TRUE(source->unread().empty());
      EXPECT_TRUE(source->info("a.weight").is_scaled);
    }
  }
}

TEST_F(Scaled, OneScaleForEachRow) {
  for (const Shape& shape : {Shape{2}, Shape{2, 1}}) {
    add_weight();
    add_floats("a.weight_scale", shape, {0.25F, 2.0F});
    add_text("a.comfy_quant", R"({"format": "float8_e4m3fn"})");
    EXPECT_EQ(read(*open(), "a.weight"), (std::vector<float>{0.25F, 0.5F, -1.0F, 8.0F}));
  }
}

TEST_F(Scaled, PlainCheckpointsAreLeftAlone) {
  add_weight();
  const auto source = open();
  EXPECT_EQ(source, checkpoint_);
  EXPECT_EQ(read(*source, "a.weight"), (std::vector<float>{1.0F, 2.0F, -0.5F, 4.0F}));
}

TEST_F(Scaled, ScalesWhoseProductsAreInfiniteAreRefused) {
  for (const float scale : {1e35F, std::numeric_limits<float>::infinity()}) {
    add_weight();
    add_floats("a.weight_scale", {1}, {scale});
    EXPECT_THROW(read(*open(), "a.weight"), Error) << scale;
  }
}

// Joined with a part that cannot be read, a tensor cannot be read either.
TEST_F(Scaled, OneScaledPartDoesNotMakeTheOthersReadable) {
  add("a.weight", DType::kI8, {1, 4}, std::as_bytes(std::span(kCodes)));
  add("b.weight", DType::kI8, {1, 4}, std::as_bytes(std::span(kCodes)));
  add_floats("a.weight_scale", {1}, {0.5F});
  add_text("a.comfy_quant", R"({"format": "int8_tensorwise"})");
  const KeyMappedSource joined(
      open(), {{"ab", {{"a.weight"}, {"b.weight"}}}, {"aa", {{"a.weight"}, {"a.weight"}}}});
  EXPECT_FALSE(joined.info("ab").has_values());
  EXPECT_TRUE(joined.info("aa").has_values());
}

TEST_F(Scaled, OneMatrixWithoutScaleAmongOthersIsRefused) {
  add_weight();
  add_floats("a.weight_scale", {1}, {0.5F});
  add_weight("b.weight");
  expect_contains(message_of<Error>([&] { open(); }), "tensor 'b.weight' in");
}

TEST_F(Scaled, AFormatThatIsNotTheWeightsIsRefused) {
  add_weight();
  add_floats("a.weight_scale", {1}, {0.5F});
  add_text("a.comfy_quant", R"({"format": "float8_e5m2"})");
  expect_contains(message_of<Error>([&] { open(); }),
                  "its format is 'float8_e5m2', which has elements of F8_E5M2, found F8_E4M3");
}

TEST_F(Scaled, AFormatOfNoWeightIsRefused) {
  add_weight();
  add_text("b.comfy_quant", R"({"format": "float8_e4m3fn"})");
  expect_contains(message_of<Error>([&] { open(); }), "there is no 'b.weight' that it describes");
}

TEST_F(Scaled, OtherNumbersOfScalesAreRefused) {
  for (const Shape& shape : {Shape{3}, Shape{1, 2}, Shape{2, 2}}) {
    add_weight();
    add_floats("a.weight_scale", shape,
               std::vector<float>(static_cast<std::size_t>(shape.num_elements()), 1.0F));
    const auto source = open();
    expect_contains(message_of<Error>([&] { source->info("a.weight"); }),
                    "tensor 'a.weight_scale' in '" + (folder_ / "x.safetensors").string() +
                        "': wanted one scale, or one for each row of 'a.weight' [2, 2], found");
  }
}

TEST_F(Scaled, OtherFormatsAreRefusedByName) {
  add_weight();
  add_text("a.comfy_quant", R"({"format": "nvfp4"})");
  expect_contains(error_of(), "tensor 'a.comfy_quant'");
  add_weight();
  add_text("a.comfy_quant", R"({"format": "nvfp4"})");
  expect_contains(error_of(), "weights of format 'nvfp4' are not read");
  add_weight();
  expect_contains(
      error_of({{"_quantization_metadata", R"({"layers": {"a": {"format": "int8_convrot"}}})"}}),
      "(_quantization_metadata): a: weights of format 'int8_convrot' are not read");
  add_weight();
  add_text("a.comfy_quant", R"({"format": "int8_tensorwise", "convrot": true})");
  expect_contains(error_of(), "weights of format 'int8_tensorwise with convrot' are not read");
  add_weight();
  add_floats("a.weight.absmax", {1}, {1.0F});
  expect_contains(error_of(), "its weights are quantised in bitsandbytes, which is not read");
}

TEST_F(Scaled, NothingThatLooksLikeAScaleIsIgnored) {
  for (const char* name : {"a.weight_scale_2", "a.pre_quant_scale", "a.Q4_0_qweight", "a.SCB",
                           "a.weight.absmax", "a.weight_scale_inv", "a.weight.quant_map"}) {
    add_weight();
    add_floats(name, {1}, {1.0F});
    expect_contains(error_of(), std::string("tensor '") + name + "' in");
  }
}

TEST_F(Scaled, AMissingScaleIsRefused) {
  add_weight();
  add_text("a.comfy_quant", R"({"format": "float8_e4m3fn"})");
  expect_contains(error_of(), "tensor 'a.weight' in");
  add_weight();
  add_weight("b.weight");
  add_floats("a.scale_weight", {}, {1.0F});
  add("model.scaled_fp8", DType::kF8E4M3, {0}, {});
  expect_contains(error_of(), "': its scale is missing");
  add_weight("shared.weight");  // a table has no scale
  add("scaled_fp8", DType::kF8E4M3, {0}, {});
  EXPECT_TRUE(open()->contains("shared.weight"));
  add_floats("c.scale_weight", {}, {1.0F});
  expect_contains(error_of(), "there is no 'c.weight' that it scales");
}

TEST_F(Scaled, IntegersWithTheirFormat) {
  const std::vector<std::int8_t> codes{1, -128, 127, 2};
  for (const bool is_in_metadata : {false, true}) {
    std::map<std::string, std::string> metadata;
    add_integers(codes);
    add_floats("a.weight_scale", {2, 1}, {0.5F, 2.0F});
    if (is_in_metadata) {
      metadata["_quantization_metadata"] = R"({"layers": {"a": {"format": "int8_tensorwise"}}})";
    } else {
      add_text("a.comfy_quant", R"({"format": "int8_tensorwise", "convrot": false})");
    }
    const auto source = open(metadata);
    EXPECT_EQ(read(*source, "a.weight"), (std::vector<float>{0.5F, -64, 254, 4}));
    EXPECT_TRUE(source->unread().empty());
  }
  add_integers(codes);
  add_floats("a.weight_scale", {}, {0.5F});
  expect_contains(error_of(), "scaled weights of I8 are read only as int8_tensorwise");
  add_integers(codes);
  add_text("a.comfy_quant", R"({"format": "int8_tensorwise"})");
  expect_contains(error_of(), "its scale is missing");
}

TEST_F(Scaled, SummaryOfScales) {
  add_weight();
  add_floats("a.weight_scale", {}, {0.5F});
  open();
  EXPECT_TRUE(summarise_scales(*checkpoint_).has_scales);
  EXPECT_FALSE(summarise_scales(*checkpoint_).has_input_scales);
  add_weight();
  add_floats("a.weight_scale", {}, {0.5F});
  add_floats("a.input_scale", {}, {0.5F});
  open();
  EXPECT_TRUE(summarise_scales(*checkpoint_).has_input_scales);
}

TEST_F(Scaled, ScalesBelowAPrefix) {
  const std::map<std::string, std::string> formats{
      {"_quantization_metadata",
       R"({"layers": {"dit.a": {"format": "float8_e4m3fn"}, "text.a": {"format": "other"}}})"}};
  add_weight("dit.a.weight");
  add_floats("dit.a.weight_scale", {}, {0.5F});
  open_file(formats);
  const auto source = with_scales(std::make_shared<PrefixedSource>(checkpoint_, "dit."));
  EXPECT_EQ(source->names(), (std::vector<std::string>{"a.weight"}));
  EXPECT_EQ(read(*source, "a.weight"), (std::vector<float>{0.5F, 1, -0.25F, 2}));

  add_weight("dit.a.weight");
  open_file(formats);
  expect_contains(message_of<Error>(
                      [&] { with_scales(std::make_shared<PrefixedSource>(checkpoint_, "dit.")); }),
                  "its scale is missing");
}

}  // namespace
}  // namespace mochi
