#include "job/prompts_file.h"

#include <fmt/format.h>

#include <sstream>
#include <string_view>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/text_file.h"

namespace mochi::job {
namespace {

std::string_view trim(std::string_view line) {
  constexpr const char* kSpace = " \t\r";
  const std::size_t begin = line.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return line.substr(begin, line.find_last_not_of(kSpace) - begin + 1);
}

}  // namespace

std::vector<LinePrompt> read_prompts(const std::filesystem::path& path, const StopFn& should_stop) {
  constexpr std::size_t kMaxBytes = 16U << 20U;
  const std::string content = read_text_file(path, kMaxBytes, should_stop);
  check_text(path, content, "a file of prompts");
  std::istringstream text_lines(content);
  std::vector<LinePrompt> prompts;
  std::string line;
  for (int line_idx = 1; std::getline(text_lines, line); ++line_idx) {
    const std::string_view text = trim(line);
    if (text.empty() || text.starts_with('#')) continue;
    prompts.push_back({std::string(text), fmt::format("{}:{}", path.string(), line_idx)});
  }
  if (prompts.empty()) fail("'{}': wanted one prompt per line, found none", path.string());
  return prompts;
}

}  // namespace mochi::job
