// Small values that users write or files hold. The first letter of the input says which kind of
// value the rest is; kKinds lists them.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "base/printable.h"
#include "base/utf8.h"
#include "flags/byte_size.h"
#include "flags/flag_value.h"
#include "fuzz_support.h"
#include "io/clip.h"
#include "io/ffmpeg_message.h"
#include "io/file_name.h"
#include "io/frame_rate.h"
#include "io/jpeg_header.h"
#include "io/video_readers.h"
#include "job/field_value.h"

namespace mochi {
namespace {

void use_frame_rate(std::string_view text) {
  parse_stream_rate(text, ':');
  const std::optional<FrameRate> rate = parse_frame_rate(text);
  if (rate) require(parse_frame_rate(format_frame_rate(*rate)) == rate);
}

void use_read_start(std::string_view text) {
  const std::optional<ReadStart> start = parse_read_start(text);
  if (start) require(start->frame >= 0 && start->seconds >= 0);
}

void use_byte_size(std::string_view text) {
  require(flags::parse_byte_size(std::string(text), "--flag") > 0);
}

// A checked value is checked again as it is.
void use_flag(std::string_view type, std::string_view text) {
  const std::string value = flags::check_value("--flag", type, text);
  require(flags::check_value("--flag", type, value) == value);
}

// "seed=7": a field of a request, as a flag or a form gives it.
void use_field(std::string_view text) {
  const std::size_t end = std::min(text.find('='), text.size());
  job::Request request;
  job::set_from_text(request, text.substr(0, end),
                     std::string(text.substr(std::min(end + 1, text.size()))));
}

// Two names, one on each line, have an order that does not contradict itself.
void use_names(std::string_view text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view left = text.substr(0, end);
  const std::string_view right = text.substr(std::min(end + 1, text.size()));
  require(!natural_less(left, left));
  require(!natural_less(left, right) || !natural_less(right, left));
}

void use_message(std::string_view text) {
  const std::string shown = printable(text);
  require(!find_invalid_utf8(shown) && shown.find_first_of("\n\r\033") == std::string::npos);
  clean_ffmpeg_line(text);
  says_cut_off(text);
}

void use_jpeg(std::string_view text) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(text));
  is_jpeg(bytes);
  is_complete_jpeg(bytes);
  const int orientation = jpeg_orientation(bytes);
  require(orientation >= 1 && orientation <= 8);
}

// A short video is read to its end, unless a hostile header asks for large frames.
void use_y4m(std::string_view text) {
  constexpr std::size_t kMaxFrame = 1 << 14;
  const auto reader = make_y4m_reader(std::as_bytes(std::span(text)), "video.y4m", {});
  const std::int64_t num_frames = reader->count_frames();
  if (reader->format().frame_bytes() > kMaxFrame) return;
  std::vector<std::uint8_t> frame(reader->format().frame_bytes());
  std::int64_t num_read = 0;
  while (reader->read_frame(frame)) ++num_read;
  require(num_read == num_frames);
}

struct Kind {
  char letter;
  void (*use)(std::string_view text);
};
constexpr std::array kKinds{
    Kind{'R', use_frame_rate},
    Kind{'S', use_read_start},
    Kind{'B', use_byte_size},
    Kind{'I', [](std::string_view text) { use_flag("INT", text); }},
    Kind{'U', [](std::string_view text) { use_flag("UINT", text); }},
    Kind{'F', [](std::string_view text) { use_flag("FLOAT", text); }},
    Kind{'L', [](std::string_view text) { use_flag("INT,...", text); }},
    Kind{'D', [](std::string_view text) { use_flag("FLOAT,...", text); }},
    Kind{'C', [](std::string_view text) { use_flag("auto|cpu|cuda", text); }},
    Kind{'T', use_field},
    Kind{'N', use_names},
    Kind{'M', use_message},
    Kind{'J', use_jpeg},
    Kind{'Y', use_y4m},
};

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  if (bytes.empty()) return -1;
  const std::string_view text = as_text(bytes);
  const auto* const kind = std::ranges::find(kKinds, text.front(), &Kind::letter);
  if (kind == kKinds.end()) return -1;
  expect_result_or_error([&] { kind->use(text.substr(1)); });
  return 0;
}

}  // namespace mochi
