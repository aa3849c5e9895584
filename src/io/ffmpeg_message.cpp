#include "io/ffmpeg_message.h"

namespace mochi {
namespace {

constexpr std::string_view kAddress = " @ 0x";

// "[source @ 0xaddress] text" → "text", as often as the line begins so.
std::string_view without_sources(std::string_view line) {
  while (line.starts_with('[')) {
    const std::size_t end = line.find("] ");
    if (end == std::string_view::npos) break;
    if (line.substr(0, end).find(kAddress) == std::string_view::npos) break;
    line.remove_prefix(end + 2);
  }
  return line;
}

void erase_all(std::string& text, std::string_view part) {
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at)) {
    text.erase(at, part.size());
  }
}

}  // namespace

std::string clean_ffmpeg_line(std::string_view line) {
  std::string text(without_sources(line));
  for (std::size_t at = text.find(kAddress); at != std::string::npos; at = text.find(kAddress)) {
    const std::size_t end = text.find_first_not_of("0123456789abcdef", at + kAddress.size());
    text.erase(at, end == std::string::npos ? end : end - at);
  }
  erase_all(text, "file:");
  while (text.ends_with('.') || text.ends_with(' ')) text.pop_back();
  return text;
}

bool says_cut_off(std::string_view line) {
  return line.find("ended prematurely") != std::string_view::npos ||
         line.find("partial file") != std::string_view::npos;
}

std::string describe_ffmpeg_end(const Subprocess& child) {
  const std::string line = child.first_stderr_line();
  std::string end = child.describe_end();
  end.resize(end.size() - line.size());
  return end + clean_ffmpeg_line(line);
}

}  // namespace mochi
