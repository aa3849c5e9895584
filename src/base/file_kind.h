// Recognises the kind of a file by its first bytes, not by its name, for messages about files that
// are not what was expected.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace mochi {

struct FileKind {
  std::string name;    // with its article: "a Git LFS pointer"
  std::string remedy;  // "run 'git lfs pull' in its folder"; may be empty
  bool is_text = false;
};

inline constexpr const char* kMp4Name = "an MP4 or QuickTime file";

// Always an answer: "a binary file of an unknown kind" if nothing matches. Only the first KiB is
// read.
FileKind recognise_content(std::span<const std::byte> bytes);

// A noun phrase for the file, folder or link at `path`: "a GGUF file", "a folder", "a link to 'x',
// which does not exist". Never throws.
std::string describe_file_kind(const std::filesystem::path& path);

// Refuses a text's content that is not one, and a web page in its place, as fail_wrong_kind() does.
void check_text(const std::filesystem::path& path, std::string_view text,
                const std::string& wanted);

// Throws Error: "'dit.safetensors' is a Git LFS pointer, not <wanted>: run ...". `wanted` has its
// article: "a safetensors file".
[[noreturn]] void fail_wrong_kind(const std::filesystem::path& path,
                                  std::span<const std::byte> bytes, const std::string& wanted);

}  // namespace mochi
