#include "io/safetensors.h"

#include <fmt/core.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"

namespace mochi {
namespace {

std::string little_endian(std::uint64_t value) {
  std::string bytes(sizeof(value), '\0');
  std::memcpy(bytes.data(), &value, sizeof(value));
  return bytes;
}

// A file of this header and this many data bytes.
std::string make_file(const std::string& header, std::size_t num_data_bytes) {
  return little_endian(header.size()) + header + std::string(num_data_bytes, 'd');
}

class Safetensors : public testing::Test {
 protected:
  const TempFolder folder_;

  SafetensorsFile open(const std::string& content) const {
    return SafetensorsFile(folder_.write("x.safetensors", content));
  }
  SafetensorsFile open(const std::string& header, std::size_t num_data_bytes) const {
    return open(make_file(header, num_data_bytes));
  }
  // The error's text; it always names the file.
  std::string error_of(const std::string& content) const {
    const std::string message = message_of<Error>([&] { open(content); });
    expect_contains(message, "x.safetensors");
    EXPECT_EQ(message.find('\n'), std::string::npos) << message;
    return message;
  }
  std::string error_of(const std::string& header, std::size_t num_data_bytes) const {
    return error_of(make_file(header, num_data_bytes));
  }
};

TEST_F(Safetensors, ReadsTensorsAndMetadata) {
  const SafetensorsFile file = open(
      R"({"__metadata__": {"format": "pt"},
          "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
          "b.weight": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]}}  )",
      14);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  ASSERT_EQ(file.entries().size(), 2U);
  const StoredEntry& a = file.entries().at("a");
  EXPECT_EQ(a.dtype_name, "F32");
  EXPECT_EQ(a.sizes, (std::vector<std::int64_t>{2, 1}));
  EXPECT_EQ(a.bytes.size(), 8U);
  EXPECT_EQ(file.entries().at("b.weight").bytes.data(), a.bytes.data() + 8);
}

TEST_F(Safetensors, ReadsAFileInMemoryWithoutCopyingIt) {
  const std::string content = make_file(
      R"({"__metadata__": {"k": "v"}, "a": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}})",
      3);
  const auto bytes = std::as_bytes(std::span(content));
  const SafetensorsFile file(bytes, "folder/memory.safetensors");
  EXPECT_EQ(file.path(), "folder/memory.safetensors");
  EXPECT_EQ(file.metadata().at("k"), "v");
  EXPECT_EQ(file.entries().at("a").bytes.data(), bytes.data() + bytes.size() - 3);
  for (std::size_t size = 0; size < bytes.size(); ++size) {
    const auto path = folder_.write("memory.safetensors", content.substr(0, size));
    const std::string wanted = message_of<Error>([&] { SafetensorsFile{path}; });
    EXPECT_EQ(message_of<Error>([&] { SafetensorsFile(bytes.first(size), path); }), wanted);
  }
}

TEST_F(Safetensors, ReadsScalarsAndEmptyTensors) {
  const SafetensorsFile file = open(
      R"({"scalar": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
          "none": {"dtype": "F32", "shape": [0, 5], "data_offsets": [4, 4]},
          "first": {"dtype": "F16", "shape": [0], "data_offsets": [0, 0]}})",
      4);
  EXPECT_EQ(file.entries().at("scalar").bytes.size(), 4U);
  EXPECT_TRUE(file.entries().at("none").bytes.empty());
  EXPECT_TRUE(open("{}", 0).entries().empty());
}

TEST_F(Safetensors, ReadsTypesTheEngineDoesNotUse) {
  const SafetensorsFile file = open(
      R"({"a": {"dtype": "I64", "shape": [1], "data_offsets": [0, 8]},
          "b": {"dtype": "BOOL", "shape": [3], "data_offsets": [8, 11]},
          "c": {"dtype": "F4", "shape": [4], "data_offsets": [11, 13]},
          "d": {"dtype": "U8", "shape": [1, 1, 1, 1, 1, 1], "data_offsets": [13, 14]}})",
      14);
  EXPECT_EQ(file.entries().size(), 4U);
  EXPECT_FALSE(parse_dtype("I64").has_value());
  EXPECT_EQ(parse_dtype("F8_E4M3"), DType::kF8E4M3);
  EXPECT_EQ(parse_dtype("F8_E5M2"), DType::kF8E5M2);
}

TEST_F(Safetensors, RefusesBrokenHeaders) {
  expect_contains(error_of(""), "x.safetensors' is empty, not a safetensors file");
  expect_contains(error_of("1234567"), "is a text file (\"1234567\"), not a safetensors file");
  expect_contains(error_of(little_endian(10) + "{}"), "truncated");
  expect_contains(error_of(little_endian(0)), "is a file of zeros, not a safetensors file");
  expect_contains(error_of(" {}", 0), "is a binary file of an unknown kind, not a safetensors");
  expect_contains(error_of("{\"a\": ", 0), "not valid JSON");
  expect_contains(error_of("{not json}", 0), "not valid JSON");
  expect_contains(error_of("{\"a\": 1}", 0), "wanted an object");
}

TEST_F(Safetensors, RefusesHugeHeaderLengths) {
  expect_contains(error_of(little_endian(100'000'001) + "[]"), "not a safetensors file");
  expect_contains(error_of(little_endian(~std::uint64_t{0}) + "{}"), "not a safetensors file");
  expect_contains(error_of(little_endian(std::uint64_t{0}) + "{}"), "the header is empty");
  expect_contains(error_of(little_endian(100'000'000) + "{}"), "truncated");
}

TEST_F(Safetensors, RefusesDuplicateKeys) {
  const std::string tensor = R"("a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]})";
  expect_contains(error_of("{" + tensor + "," + tensor + "}", 1), "duplicate key 'a'");
  expect_contains(
      error_of(R"({"a": {"dtype": "U8", "dtype": "I8", "shape": [1], "data_offsets": [0, 1]}})", 1),
      "duplicate key 'dtype'");
}

TEST_F(Safetensors, RefusesWrongFields) {
  expect_contains(error_of(R"({"a": {"shape": [1], "data_offsets": [0, 1]}})", 1), "dtype");
  expect_contains(error_of(R"({"a": {"dtype": "U8", "data_offsets": [0, 1]}})", 1), "no shape");
  expect_contains(error_of(R"({"a": {"dtype": "U8", "shape": [1]}})", 1), "two data_offsets");
  expect_contains(error_of(R"({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}})", 1),
                  "two data_offsets, found 3");
  expect_contains(error_of(R"({"a": {"dtype": "U9", "shape": [1], "data_offsets": [0, 1]}})", 1),
                  "unknown dtype 'U9'");
  expect_contains(error_of(R"({"a": {"dtype": 3, "shape": [1], "data_offsets": [0, 1]}})", 1),
                  "wanted a string");
  expect_contains(error_of(R"({"a": {"dtype": "U8", "shape": [1.5], "data_offsets": [0, 1]}})", 1),
                  "wanted an integer");
}

// As the reference library reads them, or more.
TEST_F(Safetensors, ReadsUnusualHeaders) {
  for (const char* metadata : {"null", "[]", "3", "\"text\""}) {
    const SafetensorsFile file = open(
        fmt::format(R"({{"__metadata__": {}, "a": {{"dtype": "U8", "shape": [1], "data_offsets": )"
                    R"([0, 1], "note": "a key more"}}}})",
                    metadata),
        1);
    EXPECT_TRUE(file.metadata().empty());
    EXPECT_EQ(file.entries().size(), 1U);
  }
  const SafetensorsFile file =
      open(R"({"__metadata__": {"alpha": 16, "none": null, "list": [1, "b"], "t": "x"}})", 0);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{
                                 {"alpha", "16"}, {"list", "[1,\"b\"]"}, {"t", "x"}}));
}

// Header of a U8 tensor "a" and a tensor "b" of given places.
std::string two_tensors(const std::string& a, const std::string& b, int a_size, int b_size) {
  return fmt::format(R"({{"a": {{"dtype": "U8", "shape": [{}], "data_offsets": [{}]}},)"
                     R"("b": {{"dtype": "U8", "shape": [{}], "data_offsets": [{}]}}}})",
                     a_size, a, b_size, b);
}

TEST_F(Safetensors, RefusesWrongOffsets) {
  expect_contains(error_of(two_tensors("0, 4", "2, 6", 4, 4), 6), "overlaps");
  expect_contains(error_of(two_tensors("0, 4", "0, 4", 4, 4), 4), "overlaps");
  expect_contains(error_of(two_tensors("0, 4", "1, 2", 4, 1), 4), "overlaps");
  expect_contains(error_of(two_tensors("0, 4", "6, 8", 4, 2), 8), "bytes 4 to 6 belong to no");
  expect_contains(error_of(two_tensors("2, 4", "4, 8", 2, 4), 8), "bytes 0 to 2 belong to no");
  expect_contains(error_of(two_tensors("0, 4", "4, 8", 4, 4), 9), "bytes 8 to 9 belong to no");
  expect_contains(error_of(two_tensors("0, 4", "4, 8", 4, 4), 7),
                  "outside of the 7 data bytes: the file is cut short");
  expect_contains(error_of(two_tensors("0, 4", "8, 4", 4, 4), 8), "outside");
  expect_contains(error_of(two_tensors("-1, 4", "4, 8", 5, 4), 8), "negative data_offsets");
  expect_contains(error_of(two_tensors("0, 4", "4, 9223372036854775807", 4, 4), 8), "outside");
  expect_contains(error_of(two_tensors("0, 4", "4, 18446744073709551615", 4, 4), 8),
                  "wanted an integer");
  expect_contains(error_of(two_tensors("0, 4", "4, 1e30", 4, 4), 8), "wanted an integer");
}

TEST_F(Safetensors, RefusesSizesThatDoNotFit) {
  const auto with_shape = [](const std::string& shape) {
    return R"({"a": {"dtype": "F32", "shape": [)" + shape + R"(], "data_offsets": [0, 8]}})";
  };
  expect_contains(error_of(with_shape("3"), 8), "F32 [3] takes 12 bytes, but data_offsets hold 8");
  expect_contains(error_of(with_shape("0"), 8), "takes 0 bytes");
  expect_contains(error_of(with_shape("-2"), 8), "negative size");
  expect_contains(error_of(with_shape("-1, -2"), 8), "negative size");
  expect_contains(error_of(with_shape("4294967296, 4294967296"), 8), "overflows");
  expect_contains(error_of(with_shape("4611686018427387906"), 8), "overflows");  // · 32 bits
  expect_contains(error_of(R"({"a": {"dtype": "F4", "shape": [3], "data_offsets": [0, 2]}})", 2),
                  "does not end on a byte");
}

TEST_F(Safetensors, TruncatedFilesNeverPass) {
  const std::string whole = make_file(two_tensors("0, 4", "4, 8", 4, 4), 8);
  EXPECT_NO_THROW(open(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THROW(open(whole.substr(0, size)), Error) << size;
  }
}

TEST_F(Safetensors, DeepNestingIsNoCrash) {
  const std::string deep(200'000, '[');
  expect_contains(error_of("{\"a\": " + deep, 0), "nested deeper than 100");
  const std::string closed = deep + std::string(200'000, ']');
  expect_contains(error_of("{\"a\": " + closed + "}", 0), "nested deeper than 100");
}

TEST_F(Safetensors, WrittenFilesAreReadBack) {
  const std::array<float, 6> values{1, -2, 3.5F, 0, 1e-30F, 7};
  const std::array<std::uint8_t, 3> codes{9, 8, 7};
  const float scalar = 42;
  const std::vector<NamedTensor> tensors{
      {"codes", DType::kU8, Shape{3}, std::as_bytes(std::span(codes))},
      {"values", DType::kF32, Shape{2, 3}, std::as_bytes(std::span(values))},
      {"empty", DType::kBF16, Shape{0, 2}, {}},
      {"scalar", DType::kF32, Shape{}, std::as_bytes(std::span(&scalar, 1))},
  };
  const auto path = folder_ / "out.safetensors";
  write_safetensors(path, tensors, {{"made", "by \"us\""}});
  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata().at("made"), "by \"us\"");
  ASSERT_EQ(file.entries().size(), tensors.size());
  for (const NamedTensor& tensor : tensors) {
    const StoredEntry& entry = file.entries().at(tensor.name);
    EXPECT_EQ(parse_dtype(entry.dtype_name), tensor.dtype);
    EXPECT_TRUE(Shape(entry.sizes) == tensor.shape);
    ASSERT_EQ(entry.bytes.size(), tensor.bytes.size());
    EXPECT_TRUE(std::ranges::equal(entry.bytes, tensor.bytes)) << tensor.name;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(entry.bytes.data()) % dtype_bytes(tensor.dtype), 0U);
  }
  EXPECT_EQ(folder_.num_entries(), 1U);
}

TEST_F(Safetensors, WriterRefusesBytesThatDoNotFit) {
  const float value = 1;
  const auto bytes = std::as_bytes(std::span(&value, 1));
  const auto path = folder_ / "out.safetensors";
  const auto write = [&](const std::vector<NamedTensor>& tensors) {
    return message_of<Error>([&] { write_safetensors(path, tensors); });
  };
  expect_contains(write({{"a", DType::kF32, Shape{2}, bytes}}), "takes 8 bytes, found 4");
  expect_contains(write({{"a", DType::kF32, {}, bytes}, {"a", DType::kF32, {}, bytes}}),
                  "is taken");
  expect_contains(write({{"__metadata__", DType::kF32, {}, bytes}}), "is taken");
  EXPECT_EQ(folder_.num_entries(), 0U);
}

}  // namespace
}  // namespace mochi
