#include "report/html_page.h"

#include <fmt/core.h>

#include <string_view>
#include <utility>

#include "base/base64.h"
#include "report/markup.h"

namespace mochi::report {
namespace {

// The style has no '<' and no '&', which have a meaning in XML.
constexpr std::string_view kPageStyle = R"(
:root { color-scheme: light dark; --ground: #ffffff; --ink: #1f2328; --line: #d1d9e0; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #0d1117; --ink: #e6edf3; --line: #3d444d; }
}
body { background: var(--ground); color: var(--ink); margin: 1.5rem auto; padding: 0 1rem;
  max-width: 50rem; font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1, h2 { line-height: 1.25; }
h1 { font-size: 1.7rem; }
h2 { font-size: 1.3rem; border-bottom: 1px solid var(--line); padding-bottom: 0.3rem;
  margin-top: 2.5rem; }
.lead { font-size: 1.2rem; font-weight: 600; line-height: 1.4; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem; }
th, td { border-bottom: 1px solid var(--line); padding: 0.25rem 0.75rem 0.25rem 0; text-align: left;
  vertical-align: top; }
.pairs { width: 100%; table-layout: fixed; }
.pairs th, .pairs td { overflow-wrap: anywhere; }
.pairs th:first-child { width: 45%; }
figure { margin: 1rem 0 1.5rem; }
.wide { overflow-x: auto; }
figcaption { font-size: 0.95rem; margin-bottom: 0.4rem; }
.title { font-weight: 600; margin-right: 1rem; }
.key { white-space: nowrap; margin-right: 1rem; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(7rem, 1fr)); gap: 4px; }
.images img { width: 100%; height: auto; }
.videos { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 16rem), 1fr));
  gap: 0.5rem 1rem; }
.videos figure { margin: 0; }
video { display: block; width: 100%; height: auto; background: #000000; }
a { color: inherit; }
)";

constexpr std::string_view kTableEnd = "</tbody>\n</table></figure>\n";

std::string make_row(const char* tag, const std::vector<std::string>& cells) {
  std::string row = "<tr>";
  for (const std::string& cell : cells) {
    row += fmt::format("<{0}>{1}</{0}>", tag, escape_markup(cell));
  }
  return row + "</tr>\n";
}

// Long keys break after their dots and underscores first.
std::string make_pair_row(const std::vector<std::string>& pair) {
  std::string key;
  for (const char letter : escape_markup(pair.front())) {
    key += letter;
    if (letter == '.' || letter == '_') key += "<wbr/>";
  }
  return fmt::format("<tr><td>{}</td><td>{}</td></tr>\n", key, escape_markup(pair.back()));
}

std::string open_table(const char* figure_class, const char* table_class,
                       const std::vector<std::string>& headers) {
  return fmt::format("<figure class=\"{}\"><table class=\"{}\">\n<thead>{}</thead>\n<tbody>\n",
                     figure_class, table_class, make_row("th", headers));
}

const char* glyph_of(Mark mark) {
  switch (mark) {
    case Mark::kDot:
      return "●";
    case Mark::kSquare:
      return "■";
    case Mark::kTriangle:
      return "▲";
    case Mark::kLine:
      return "━";
  }
  return "";
}

std::string make_caption(const Figure& figure) {
  std::string caption = fmt::format("<span class=\"title\">{}</span>", escape_markup(figure.title));
  for (const LegendEntry& entry : figure.legend) {
    caption += fmt::format(" <span class=\"key\"><span style=\"color: {}\">{}</span> {}</span>",
                           entry.color, glyph_of(entry.mark), escape_markup(entry.name));
  }
  return caption;
}

std::string make_player(const PageVideo& video) {
  const std::string file = escape_markup(video.file);
  const std::string caption = escape_markup(video.caption);
  return fmt::format(
      "<figure>\n<video controls=\"controls\" loop=\"loop\" muted=\"muted\" "
      "playsinline=\"playsinline\" preload=\"metadata\" width=\"{}\" height=\"{}\" "
      "aria-label=\"{}\" src=\"{}\">\n<a href=\"{}\">{}</a>\n</video>\n"
      "<figcaption>{}: <a href=\"{}\">{}</a></figcaption>\n</figure>\n",
      video.width, video.height, caption, file, file, file, caption, file, file);
}

}  // namespace

HtmlPage::HtmlPage(std::string title) : title_(std::move(title)) {}

void HtmlPage::add_heading(const std::string& text) {
  body_ += fmt::format("<h2>{}</h2>\n", escape_markup(text));
}

void HtmlPage::add_text(const std::string& text) {
  body_ += fmt::format("<p>{}</p>\n", escape_markup(text));
}

void HtmlPage::add_lead(const std::string& text) {
  body_ += fmt::format("<p class=\"lead\">{}</p>\n", escape_markup(text));
}

void HtmlPage::add_table(const std::vector<std::string>& headers,
                         const std::vector<std::vector<std::string>>& rows) {
  body_ += open_table("wide", "numbers", headers);
  for (const std::vector<std::string>& row : rows) body_ += make_row("td", row);
  body_ += kTableEnd;
}

void HtmlPage::add_pairs(const std::string& key_header, const std::string& value_header,
                         const std::vector<std::vector<std::string>>& rows) {
  body_ += open_table("narrow", "pairs", {key_header, value_header});
  for (const std::vector<std::string>& row : rows) body_ += make_pair_row(row);
  body_ += kTableEnd;
}

void HtmlPage::add_figure(const Figure& figure) {
  body_ += fmt::format("<figure>\n<figcaption>{}</figcaption>\n{}</figure>\n", make_caption(figure),
                       make_inline_svg(figure));
}

void HtmlPage::add_image_row(const std::string& caption, const std::vector<std::string>& pngs) {
  const std::string text = escape_markup(caption);
  body_ += fmt::format("<figure>\n<figcaption>{}</figcaption>\n<div class=\"images\">\n", text);
  for (const std::string& png : pngs) {
    body_ += fmt::format("<img alt=\"{}\" src=\"data:image/png;base64,{}\"/>\n", text,
                         encode_base64(png));
  }
  body_ += "</div>\n</figure>\n";
}

void HtmlPage::add_videos(const std::vector<PageVideo>& videos) {
  body_ += "<div class=\"videos\">\n";
  for (const PageVideo& video : videos) body_ += make_player(video);
  body_ += "</div>\n";
}

std::string HtmlPage::finish() const {
  const std::string title = escape_markup(title_);
  return fmt::format(
      "<!DOCTYPE html>\n"
      "<html xmlns=\"http://www.w3.org/1999/xhtml\" lang=\"en\">\n<head>\n"
      "<meta charset=\"utf-8\"/>\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n"
      "<title>{0}</title>\n<style>{1}{2}</style>\n</head>\n<body>\n<h1>{0}</h1>\n{3}</body>\n"
      "</html>\n",
      title, kPageStyle, inline_style(), body_);
}

}  // namespace mochi::report
