#include "io/video_probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/mapped_file.h"
#include "base/subprocess.h"
#include "io/ffmpeg_message.h"
#include "io/json.h"
#include "io/video_readers.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

// Why ffprobe finds no video in the file, in our words; `line` is its own explanation.
std::string explain_unreadable(const fs::path& path, std::string_view line) {
  const MappedFile file(path);
  if (file.bytes().empty()) return "the file is empty";
  const FileKind kind = recognise_content(file.bytes());
  if (kind.name == kMp4Name && line.find("moov atom not found") != std::string_view::npos) {
    return "its index is missing: the file was cut off, or is still being written";
  }
  return fmt::format("not a video that ffmpeg knows, or a damaged one: it is {}{}", kind.name,
                     kind.remedy.empty() ? "" : fmt::format(" ({})", kind.remedy));
}

// The text that ffprobe prints about the first video stream that is not a cover picture.
std::string run_ffprobe(const fs::path& path, const std::vector<std::string>& wanted,
                        const StopFn& should_stop) {
  std::vector<std::string> args{"ffprobe", "-v", "error", "-select_streams", "V:0"};
  args.insert(args.end(), wanted.begin(), wanted.end());
  args.insert(args.end(), {"-i", "file:" + path.string()});
  Subprocess ffprobe(args, {.from_stdout = true}, should_stop);
  std::string text = ffprobe.read_all();
  if (ffprobe.wait() != 0) {
    fail("cannot read '{}': {}", path.string(),
         explain_unreadable(path, ffprobe.first_stderr_line()));
  }
  if (says_cut_off(ffprobe.first_stderr_line())) {
    fail("cannot read '{}': it was cut off or is damaged", path.string());
  }
  return text;
}

// Returns true if the display matrix, or the tag of older versions, turns the picture on its side.
bool is_turned(const Json& stream) {
  double degrees = 0;
  for (const Json& data : stream.value("side_data_list", Json::array())) {
    const Json rotation = data.value("rotation", Json(0));
    if (rotation.is_number()) degrees = rotation.get<double>();
  }
  const std::string tag = stream.value("tags", Json::object()).value("rotate", "");
  std::from_chars(tag.data(), tag.data() + tag.size(), degrees);
  constexpr double kQuarter = 90;
  return std::abs(std::abs(std::remainder(degrees, 2 * kQuarter)) - kQuarter) < 1;
}

void read_rates(const Json& stream, VideoProbe& probe) {
  const std::optional<FrameRate> nominal = parse_stream_rate(stream.value("r_frame_rate", ""), '/');
  const std::optional<FrameRate> average =
      parse_stream_rate(stream.value("avg_frame_rate", ""), '/');
  constexpr double kTolerance = 0.05;
  probe.has_rate = nominal || average;
  if (!nominal || !average) {
    if (probe.has_rate) probe.format.fps = nominal ? *nominal : *average;
    probe.is_irregular = average.has_value();
    return;
  }
  probe.is_irregular = std::abs(average->value() / nominal->value() - 1) > kTolerance;
  probe.format.fps = probe.is_irregular ? *average : *nominal;
}

// Packets whose times are looked at, and those of them whose order may differ from that of the
// frames.
constexpr std::size_t kNumTimes = 96;
constexpr std::size_t kNumReordered = 16;

// The times of the first frames in seconds, in order; empty if the file does not state them all.
std::vector<double> first_times(const Json& json) {
  std::vector<double> times;
  for (const Json& packet : json.value("packets", Json::array())) {
    if (packet.value("flags", "").find('D') != std::string::npos) continue;
    const std::string text = packet.value("pts_time", "");
    double seconds = 0;
    if (std::from_chars(text.data(), text.data() + text.size(), seconds).ec != std::errc()) {
      return {};
    }
    times.push_back(seconds);
  }
  std::ranges::sort(times);
  if (times.size() + kNumReordered > kNumTimes) times.resize(times.size() - kNumReordered);
  return times;
}

// Matroska files state the rate that was wanted; the frames' times tell whether they have it.
void read_times(const Json& json, VideoProbe& probe) {
  constexpr double kClock = 0.002;  // times are rounded to a millisecond
  const std::vector<double> times = first_times(json);
  if (probe.is_irregular || times.size() < 3) return;
  std::vector<double> gaps(times.size() - 1);
  std::transform(times.begin() + 1, times.end(), times.begin(), gaps.begin(), std::minus<>{});
  const auto [least, most] = std::ranges::minmax(gaps);
  probe.is_irregular = most > 1.5 * least + kClock;
  if (!probe.is_irregular) return;
  const double rate = static_cast<double>(gaps.size()) / (times.back() - times.front());
  probe.format.fps = parse_frame_rate(fmt::format("{:.3f}", rate)).value_or(probe.format.fps);
}

std::int64_t parse_count(const std::string& text) {
  std::int64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

}  // namespace

VideoProbe probe_video(const fs::path& path, const StopFn& should_stop) {
  constexpr const char* kEntries =
      "stream=width,height,r_frame_rate,avg_frame_rate,sample_aspect_ratio,nb_frames,field_order,"
      "color_transfer:stream_side_data=rotation:stream_tags=rotate:packet=pts_time,flags";
  const Json json = parse_json(run_ffprobe(path,
                                           {"-show_entries", kEntries, "-read_intervals",
                                            fmt::format("%+#{}", kNumTimes), "-of", "json"},
                                           should_stop),
                               "ffprobe of " + path.string());
  const Json streams = json.value("streams", Json::array());
  if (streams.empty()) {
    fail("cannot read '{}': it holds no video ({})", path.string(), explain_unreadable(path, ""));
  }
  const Json& stream = streams[0];
  VideoProbe probe;
  probe.format.width = stream.value("width", 0);
  probe.format.height = stream.value("height", 0);
  if (probe.format.width == 0) {
    fail("cannot read '{}': {}", path.string(), explain_unreadable(path, ""));
  }
  check_frame_format(probe.format, "'" + path.string() + "'");
  read_rates(stream, probe);
  const std::optional<FrameRate> aspect =
      parse_stream_rate(stream.value("sample_aspect_ratio", ""), ':');
  if (aspect) probe.pixel_aspect = aspect->value();
  if (is_turned(stream)) {
    std::swap(probe.format.width, probe.format.height);
    probe.pixel_aspect = 1 / probe.pixel_aspect;
  }
  probe.num_stored = parse_count(stream.value("nb_frames", ""));
  read_times(json, probe);
  const std::string order = stream.value("field_order", "");
  probe.is_interlaced = order == "tt" || order == "bb" || order == "tb" || order == "bt";
  const std::string transfer = stream.value("color_transfer", "");
  probe.is_hdr = transfer == "smpte2084" || transfer == "arib-std-b67";
  return probe;
}

std::vector<double> probe_frame_times(const fs::path& path, const StopFn& should_stop) {
  std::istringstream lines(
      run_ffprobe(path, {"-show_entries", "packet=pts_time,flags", "-of", "csv=p=0"}, should_stop));
  std::vector<double> times;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t comma = line.find(',');
    if (comma == std::string::npos) continue;
    if (line.find('D', comma) != std::string::npos) continue;  // decoded for others, never shown
    double seconds = 0;
    std::from_chars(line.data(), line.data() + comma, seconds);
    times.push_back(seconds);
  }
  std::ranges::sort(times);
  const double first = times.empty() ? 0 : times.front();
  for (double& time : times) time -= first;
  return times;
}

}  // namespace mochi
