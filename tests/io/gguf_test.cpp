#include "io/gguf.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/checkpoint.h"
#include "io/gguf_source.h"
#include "support/gguf_bytes.h"

namespace mochi {
namespace {

constexpr std::uint32_t kF32Type = 0;
constexpr std::uint32_t kQ8Type = 8;
constexpr std::uint32_t kQ4KType = 12;
constexpr std::uint32_t kIq4Type = 23;
constexpr std::uint32_t kU32Value = 4;
constexpr std::uint32_t kStringValue = 8;
constexpr std::uint32_t kArrayValue = 9;
constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();

std::string array_value(std::uint32_t type, std::uint64_t count, const std::string& elements) {
  return bytes_of(type) + bytes_of(count) + elements;
}

GgufFile open_gguf(const std::string& content) {
  return GgufFile(std::as_bytes(std::span(content)), "x.gguf");
}

// The error's text; it names the file and is one line.
std::string gguf_error(const std::string& content) {
  const std::string message = message_of<Error>([&] { open_gguf(content); });
  expect_contains(message, "x.gguf");
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
  return message;
}

std::string gguf_error(const GgufParts& parts) { return gguf_error(make_gguf(parts)); }

TEST(Gguf, ReadsWhatGgufWrites) {
  const GgufFile file(MOCHI_GOLDEN_DIR "/gguf/types.gguf");
  EXPECT_EQ(file.metadata().at("general.architecture"), "pig");
  EXPECT_EQ(file.metadata().at("test.uint8"), "200");
  EXPECT_EQ(file.metadata().at("test.int8"), "-5");
  EXPECT_EQ(file.metadata().at("test.uint16"), "60000");
  EXPECT_EQ(file.metadata().at("test.int16"), "-300");
  EXPECT_EQ(file.metadata().at("test.uint32"), "4294967295");
  EXPECT_EQ(file.metadata().at("test.int32"), "-2147483648");
  EXPECT_EQ(file.metadata().at("test.uint64"), "18446744073709551615");
  EXPECT_EQ(file.metadata().at("test.int64"), "-9223372036854775808");
  EXPECT_EQ(file.metadata().at("test.float32"), "0.5");
  EXPECT_EQ(file.metadata().at("test.float64"), "-0.25");
  EXPECT_EQ(file.metadata().at("test.bool"), "true");
  EXPECT_EQ(file.metadata().at("test.string"), "a text with ä");
  EXPECT_EQ(file.metadata().at("test.array"), "3, 4, 5");
  EXPECT_EQ(file.metadata().at("test.strings"), "a, b");
  EXPECT_FALSE(file.metadata().contains("test.long_array"));
  EXPECT_FALSE(file.metadata().contains("test.long_strings"));
  EXPECT_EQ(file.entries().at("F32").sizes, (std::vector<std::int64_t>{3, 5, 2}));
  EXPECT_EQ(file.entries().at("Q4_K").sizes, (std::vector<std::int64_t>{2, 512}));
  EXPECT_EQ(file.entries().at("Q4_K").dtype_name, "Q4_K");
  EXPECT_EQ(file.entries().at("Q4_K").bytes.size(), 4U * 144U);
}

TEST(GgufSource, GivesTheValuesThatGgufComputes) {
  const auto source = open_weights(MOCHI_GOLDEN_DIR "/gguf/types.gguf");
  const auto wanted = Checkpoint::open(MOCHI_GOLDEN_DIR "/gguf/types.safetensors");
  const std::vector<std::string> names = source->names();
  EXPECT_EQ(names.size(), 14U);
  EXPECT_EQ(source->unread(), names);
  for (const std::string& name : names) {
    const TensorInfo info = source->info(name);
    const TensorInfo wanted_info = wanted->require("output." + name, info.shape);
    const auto num_elements = static_cast<std::size_t>(info.shape.num_elements());
    std::vector<float> found(num_elements);
    std::vector<float> expected(num_elements);
    source->read_f32(name, found);
    wanted->read_f32("output." + name, expected);
    EXPECT_EQ(found, expected) << name;
  }
  EXPECT_TRUE(source->unread().empty());
}

TEST(GgufSource, NamesATypeThatIsNotRead) {
  const std::string content =
      make_gguf({.tensors = {gguf_tensor("a", {256}, kIq4Type, 0)}, .num_data_bytes = 136});
  const TempFolder folder;
  const auto source = open_weights(folder.write("x.gguf", content));
  EXPECT_EQ(source->entry("a").dtype_name, "IQ4_XS");
  const std::string message = message_of<Error>([&] { source->info("a"); });
  expect_contains(message, "'a'");
  expect_contains(message, "IQ4_XS");
  expect_contains(message_of<Error>([&] { source->info("b"); }), "no tensor 'b'");
}

TEST(GgufSource, IsRecognisedByItsContent) {
  const TempFolder folder;
  const auto path = folder.write("x.safetensors", make_gguf({}));
  EXPECT_TRUE(open_weights(path)->names().empty());
  expect_contains(message_of<Error>([&] { open_weights(folder.write("y.gguf", "{}")); }),
                  "is a JSON text, not a GGUF file");
  EXPECT_THROW(open_weights(folder.write("z.gguf", "")), Error);
}

TEST(Gguf, ReadsVersion2AndAnotherAlignment) {
  const GgufFile file = open_gguf(make_gguf(
      {.values = {gguf_value("general.alignment", kU32Value, bytes_of(std::uint32_t{64}))},
       .tensors = {gguf_tensor("a", {2}, kF32Type, 0), gguf_tensor("b", {3, 1}, kF32Type, 64)},
       .num_data_bytes = 76,
       .version = 2,
       .alignment = 64}));
  EXPECT_EQ(file.entries().at("b").bytes.size(), 12U);
  EXPECT_EQ(file.entries().at("b").sizes, (std::vector<std::int64_t>{1, 3}));
}

TEST(Gguf, ReadsFilesWithoutTensorsAndTensorsWithoutElements) {
  EXPECT_TRUE(open_gguf(make_gguf({})).entries().empty());
  const GgufFile file = open_gguf(make_gguf({.tensors = {gguf_tensor("a", {0, 4}, kF32Type, 0)}}));
  EXPECT_TRUE(file.entries().at("a").bytes.empty());
}

TEST(Gguf, RefusesOtherFilesAndVersions) {
  expect_contains(gguf_error(std::string("GGU")), "not a GGUF file");
  expect_contains(gguf_error(std::string("PK\3\4 and more")), "a zip archive, not a GGUF file");
  expect_contains(gguf_error(GgufParts{.version = 1}), "version 2 or 3");
  expect_contains(gguf_error(GgufParts{.version = 4}), "found 4");
  expect_contains(gguf_error(GgufParts{.version = 0x03000000}), "big-endian");
}

// Each beginning of a file is refused, whatever is missing.
TEST(Gguf, RefusesTruncatedFiles) {
  const std::string whole = make_gguf(
      {.values = {gguf_value("key", kStringValue, gguf_string("value")),
                  gguf_value("array", kArrayValue, array_value(kU32Value, 2, "12345678"))},
       .tensors = {gguf_tensor("a", {32, 2}, kQ8Type, 0)},
       .num_data_bytes = 68});
  EXPECT_NO_THROW(open_gguf(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) gguf_error(whole.substr(0, size));
}

TEST(Gguf, RefusesCountsBeyondTheFile) {
  const std::string head = "GGUF" + bytes_of(std::uint32_t{3});
  expect_contains(gguf_error(head + bytes_of(kHuge) + bytes_of(std::uint64_t{0})),
                  "the number of tensors");
  expect_contains(gguf_error(head + bytes_of(std::uint64_t{0}) + bytes_of(kHuge)),
                  "the number of metadata keys");
  const auto with_value = [](std::uint32_t type, const std::string& value) {
    return GgufParts{.values = {gguf_value("key", type, value)}};
  };
  expect_contains(gguf_error(with_value(kStringValue, bytes_of(kHuge))), "'key'");
  expect_contains(gguf_error(with_value(kArrayValue, array_value(kU32Value, kHuge, ""))), "'key'");
  expect_contains(gguf_error(with_value(kArrayValue, array_value(kStringValue, kHuge, ""))),
                  "'key'");
}

TEST(Gguf, RefusesUnknownTypesAndDeepArrays) {
  expect_contains(gguf_error(GgufParts{.values = {gguf_value("key", 13, "abcd")}}),
                  "unknown type 13");
  expect_contains(gguf_error(GgufParts{.tensors = {gguf_tensor("a", {1}, 99, 0)}}),
                  "'a' has the unknown type 99");
  std::string nested = array_value(kU32Value, 0, "");
  for (int i = 0; i < 10; ++i) nested = array_value(kArrayValue, 1, nested);
  expect_contains(gguf_error(GgufParts{.values = {gguf_value("key", kArrayValue, nested)}}),
                  "nested arrays");
}

TEST(Gguf, RefusesWhatOccursTwice) {
  const std::string value = gguf_value("key", kU32Value, "abcd");
  expect_contains(gguf_error(GgufParts{.values = {value, value}}), "'key' occurs twice");
  const std::string tensor = gguf_tensor("a", {0}, kF32Type, 0);
  expect_contains(gguf_error(GgufParts{.tensors = {tensor, tensor}}), "'a' occurs twice");
}

TEST(Gguf, RefusesWrongPlaces) {
  const auto with_tensors = [](std::vector<std::string> tensors) {
    return GgufParts{.tensors = std::move(tensors), .num_data_bytes = 64};
  };
  expect_contains(gguf_error(with_tensors({gguf_tensor("a", {1}, kF32Type, 4)})),
                  "no multiple of 32");
  expect_contains(gguf_error(with_tensors({gguf_tensor("a", {1}, kF32Type, kHuge - 31)})),
                  "cut short");
  expect_contains(gguf_error(with_tensors({gguf_tensor("a", {9}, kF32Type, 32)})), "cut short");
  expect_contains(gguf_error(with_tensors(
                      {gguf_tensor("a", {9}, kF32Type, 0), gguf_tensor("b", {1}, kF32Type, 32)})),
                  "'b' overlaps");
}

TEST(Gguf, RefusesWrongShapes) {
  const auto with_sizes = [](const std::vector<std::uint64_t>& sizes, std::uint32_t type) {
    return GgufParts{.tensors = {gguf_tensor("a", sizes, type, 0)}, .num_data_bytes = 4096};
  };
  expect_contains(gguf_error(with_sizes({1, 1, 1, 1, 1, 1}, kF32Type)), "at most 5 dimensions");
  expect_contains(gguf_error(with_sizes({kHuge}, kF32Type)), "wrong shape");
  expect_contains(gguf_error(with_sizes({1ULL << 40, 1ULL << 40}, kF32Type)), "too large");
  expect_contains(gguf_error(with_sizes({1ULL << 60, 8}, kQ4KType)), "too large");
  expect_contains(gguf_error(with_sizes({128, 2}, kQ4KType)), "whole blocks of 256");
}

TEST(Gguf, RefusesWrongAlignments) {
  for (const std::uint32_t alignment : {0U, 3U, 1U << 31U}) {
    const GgufParts parts{
        .values = {gguf_value("general.alignment", kU32Value, bytes_of(alignment))}};
    expect_contains(gguf_error(parts), "wanted a power of two");
  }
  const std::string text = gguf_value("general.alignment", kStringValue, gguf_string("a\n"));
  expect_contains(gguf_error(GgufParts{.values = {text}}), "found 'a\\x0a'");
}

TEST(Gguf, RefusesAnOriginalShapeOfOtherSize) {
  for (const std::string& elements :
       {bytes_of(std::uint32_t{3}), std::string("\xff\xff\xff\xff")}) {
    const GgufParts parts{.values = {gguf_value("comfy.gguf.orig_shape.a", kArrayValue,
                                                array_value(kU32Value, 1, elements))},
                          .tensors = {gguf_tensor("a", {4}, kF32Type, 0)},
                          .num_data_bytes = 16};
    expect_contains(gguf_error(parts), "as many elements as [4]");
  }
}

}  // namespace
}  // namespace mochi
