#include "base/file_kind.h"

#include <gtest/gtest.h>

#include <string>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/json.h"
#include "io/safetensors.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;
using std::string_literals::operator""s;

std::string kind_of(const std::string& content) {
  return recognise_content(std::as_bytes(std::span(content))).name;
}

const std::string kLfsPointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') +
    "\nsize 20060000000\n";

TEST(FileKind, RecognisesFilesThatPeopleTakeForWeights) {
  EXPECT_EQ(kind_of(kLfsPointer), "a Git LFS pointer");
  EXPECT_EQ(kind_of("# xet version 0\nfilesize = 1\n"), "a Xet pointer");
  EXPECT_EQ(kind_of("PK\3\4"s + std::string(26, '\0') + "archive/data.pkl"),
            "a zip archive, as PyTorch writes it (.pt, .ckpt, .bin)");
  EXPECT_EQ(kind_of("PK\3\4"s + std::string(26, '\0') + "readme.txt"), "a zip archive");
  EXPECT_EQ(kind_of("\x80\x02\x8a\x0a"s),
            "a Python pickle, as PyTorch writes it (.pt, .ckpt, .bin)");
  EXPECT_EQ(kind_of("GGUF\3\0\0\0"s), "a GGUF file");
  EXPECT_EQ(kind_of("RIFF\x10\0\0\0WEBPVP8X"s), "a WebP image");
  EXPECT_EQ(kind_of("%PDF-1.7\n"), "a PDF file");
  EXPECT_EQ(kind_of("\n <!DOCTYPE html><html>"), "a web page (HTML)");
  EXPECT_EQ(kind_of("<?xml version='1.0'?><Error>"), "an XML text");
  EXPECT_EQ(kind_of(R"({"error": "gated"})"), "a JSON text");
  EXPECT_EQ(kind_of("Entry not found\nmore"), "a text file (\"Entry not found\")");
  EXPECT_EQ(kind_of("\x1f\x8b\x08\0"s), "a gzip archive");
  EXPECT_EQ(kind_of("\0\5\x16\7\0\2\0\0Mac OS X"s),
            "an AppleDouble file (what macOS stores about another file)");
  EXPECT_EQ(kind_of(std::string(4096, '\0')), "a file of zeros");
  EXPECT_EQ(kind_of(""), "empty");
  EXPECT_EQ(kind_of("\2\0\0\0\0\0\0\0{}"s), "a safetensors file");
  EXPECT_EQ(kind_of("\xfe\xed\1\2\3\4\5\6\7\x08"s), "a binary file of an unknown kind");
}

TEST(FileKind, RecognisesArchivesAndTexts) {
  EXPECT_EQ(kind_of("BZh91AY&SY"), "a bzip2 archive");
  EXPECT_EQ(kind_of("Rar!\x1a\7\0"s), "a RAR archive");
  EXPECT_EQ(kind_of("SQLite format 3\0"s), "an SQLite database");
  EXPECT_EQ(kind_of("\xff\xfe{\0}\0"s), "a UTF-16 text");
  EXPECT_EQ(kind_of("\xfe\xff\0{\0}"s), "a UTF-16 text");
  EXPECT_EQ(kind_of("<error>\x1b[31mno"), "an XML text");
  EXPECT_EQ(kind_of("a \x1b[31mred ball"), "a text file (\"a [31mred ball\")");
  EXPECT_EQ(kind_of("<a red ball>"), "a text file (\"<a red ball>\")");
}

TEST(FileKind, OnlyTextsPassAsTexts) {
  const auto error_of = [](const std::string& content) {
    return message_of<Error>([&] { check_text("c.yml", content, "a YAML file"); });
  };
  EXPECT_EQ(error_of(kLfsPointer),
            "'c.yml' is a Git LFS pointer, not a YAML file: run 'git lfs pull' in its folder");
  EXPECT_EQ(error_of("\xff\xfe{\0}\0"s),
            "'c.yml' is a UTF-16 text, not a YAML file: save it as UTF-8");
  expect_contains(error_of("<!doctype html>"), "is a web page (HTML), not a YAML file");
  EXPECT_NO_THROW(check_text("c.yml", "attn: {}", "a YAML file"));
  EXPECT_NO_THROW(check_text("c.yml", "", "a YAML file"));
}

class FileKinds : public testing::Test {
 protected:
  std::string error_of(const std::string& content) const {
    const fs::path path = folder_.write("dit.safetensors", content);
    return message_of<Error>([&] { SafetensorsFile{path}; });
  }
  const TempFolder folder_;
};

TEST_F(FileKinds, SafetensorsErrorsNameThemAndWhatToDo) {
  const std::string name = "'" + (folder_ / "dit.safetensors").string() + "'";
  EXPECT_EQ(error_of(kLfsPointer), name +
                                       " is a Git LFS pointer, not a safetensors file: run 'git "
                                       "lfs pull' in its folder");
  EXPECT_EQ(error_of("GGUF\3\0\0\0\0\0\0\0"s), name + " is a GGUF file, not a safetensors file");
  EXPECT_EQ(error_of("<html>"), name +
                                    " is a web page (HTML), not a safetensors file: download "
                                    "the file itself");
  EXPECT_EQ(error_of(""), name + " is empty, not a safetensors file");
}

TEST_F(FileKinds, JsonErrorsNameThem) {
  const auto error_with = [&](const std::string& content) {
    return message_of<Error>([&] { read_json(folder_.write("config.json", content)); });
  };
  expect_contains(error_with(kLfsPointer), "config.json' is a Git LFS pointer, not a JSON file");
  expect_contains(error_with("<html></html>"), "is a web page (HTML), not a JSON file");
  expect_contains(error_with("{\"a\": }"), "column 7: not valid JSON: unexpected '}'");
}

TEST_F(FileKinds, LinksAndFolders) {
  fs::create_symlink("../blobs/0123", folder_ / "link");
  EXPECT_EQ(describe_file_kind(folder_ / "link"),
            "a link to '../blobs/0123', which does not exist");
  EXPECT_EQ(describe_file_kind(folder_.path()), "a folder");
  EXPECT_EQ(describe_file_kind(folder_ / "none"), "missing");
  EXPECT_EQ(describe_file_kind(folder_.write("x", kLfsPointer)), "a Git LFS pointer");
  expect_contains(message_of<Error>([&] { SafetensorsFile{folder_ / "link"}; }),
                  "link': it is a link to '../blobs/0123', which does not exist");
}

}  // namespace
}  // namespace mochi
