#include "tools/monitor/line_editor.h"

#include <cstddef>

#if TCPIP_MONITOR_HAS_LIBEDIT

#include <fcntl.h>
#include <histedit.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <cwchar>
#include <deque>
#include <exception>
#include <optional>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "tcpip/unique_fd.h"

namespace tcpip_monitor {
namespace {

constexpr char kPrompt[] = "> ";
constexpr char kEndOfInput = 4;  // Ctrl-D
constexpr int kHistorySize = 1000;

// libedit takes characters in the locale's encoding.
void set_locale() {
  std::setlocale(LC_CTYPE, "");
  if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
}

std::size_t columns() {
  ::winsize size{};
  const bool is_known =
      ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return is_known ? size.ws_col : 80;
}

// How many cells of the terminal the text takes.
std::size_t width_of(std::string_view text) {
  std::size_t width = 0;
  std::mbstate_t state{};
  while (!text.empty()) {
    wchar_t c = 0;
    const std::size_t size = std::mbrtowc(&c, text.data(), text.size(), &state);
    if (size == 0 || size > text.size()) return width + text.size();
    const int cells = ::wcwidth(c);
    width += cells >= 0 ? static_cast<std::size_t>(cells) : 2;  // as ^A
    text.remove_prefix(size);
  }
  return width;
}

// The size of the key at the front of what was typed: of a character, or of a
// terminal's escape sequence. 0 if it is not all there.
std::size_t key_size(std::string_view typed) {
  if (typed.empty()) return 0;
  const auto first = static_cast<unsigned char>(typed[0]);
  if (first >= 0xc0) {
    const std::size_t size = first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
    return typed.size() >= size ? size : 0;
  }
  if (first != '\x1b') return 1;
  if (typed.size() < 2) return 0;
  if (typed[1] != '[' && typed[1] != 'O') return 2;
  for (std::size_t i = 2; i < typed.size(); ++i) {
    if (typed[i] >= 0x40 && typed[i] <= 0x7e) return i + 1;
  }
  return 0;
}

// What a history of libedit begins with.
constexpr std::string_view kHistoryHead = "_HiStOrY_V2_\n";

// What can be done with a file for the history. Makes an empty one if there is
// none.
struct HistoryFile {
  bool can_load = false;
  bool can_save = false;
  std::string fault = {};  // if it cannot be saved
};

HistoryFile look_at(const std::string& path) {
  const auto none = [&path](std::string_view why) {
    return HistoryFile{.fault = path + ": " + std::string(why) +
                                "; the history is not kept"};
  };
  // Not even opened: that could wait for somebody, or wind a tape back.
  struct ::stat status {};
  if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    return none("it is no regular file");
  }
  constexpr int kFlags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  tcpip::UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | kFlags, 0600));
  HistoryFile result{.can_save = true};
  if (!file) {
    result = none("cannot write it: " + std::generic_category().message(errno));
    file = tcpip::UniqueFd(::open(path.c_str(), O_RDONLY | kFlags));
    if (!file) return result;
  }
  std::array<char, kHistoryHead.size()> head{};
  const ::ssize_t size = ::read(file.get(), head.data(), head.size());
  if (size == 0) return result;
  if (size < 0 || std::string_view(head.data(), static_cast<std::size_t>(
                                                    size)) != kHistoryHead) {
    return none("it is no history, and left alone");
  }
  result.can_load = true;
  return result;
}

// A prompt that a terminal at a standstill does not take is lost, and signals
// still end the program.
std::FILE* open_output() {
  tcpip::UniqueFd fd = reopen_terminal();
  std::FILE* const file = fd ? ::fdopen(fd.get(), "w") : nullptr;
  if (file == nullptr) return stdout;
  static_cast<void>(fd.release());
  return file;
}

class LineEditor final : public Input {
 public:
  LineEditor(std::string history_file, std::function<bool()> wait_for_key,
             std::function<void(const std::string& text)> report)
      : history_file_(std::move(history_file)),
        wait_for_key_(std::move(wait_for_key)),
        report_(std::move(report)) {
    set_locale();
    // Its errors would stand in the middle of the prompt.
    editor_ = ::el_init("tcpip-monitor", stdin, out_, stderr);
    history_ = ::history_init();
    if (editor_ == nullptr || history_ == nullptr) return;
    HistEvent event{};
    ::history(history_, &event, H_SETSIZE, kHistorySize);
    ::history(history_, &event, H_SETUNIQUE, 1);
    load_history();
    ::el_set(editor_, EL_CLIENTDATA, this);
    ::el_set(editor_, EL_PROMPT, &prompt);
    ::el_set(editor_, EL_EDITOR, "emacs");
    ::el_set(editor_, EL_HIST, ::history, history_);
    ::el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    ::el_source(editor_, nullptr);  // ~/.editrc
    ::el_set(editor_, EL_GETCFN, &get_character);
    start_editing();
  }

  ~LineEditor() override {
    if (editor_ != nullptr && history_ != nullptr) {
      save_history();
      stop_editing();
    }
    if (history_ != nullptr) ::history_end(history_);
    if (editor_ != nullptr) ::el_end(editor_);
    if (out_ != stdout) std::fclose(out_);
  }

  bool is_good() const { return editor_ != nullptr && history_ != nullptr; }

  void read() override {
    if (!fill()) return;
    while (key_size(typed_) > 0 && !has_ended_) {
      const std::size_t left = typed_.size() - key_size(typed_);
      edit();
      // The key has taken others, as the search does. It may have given the
      // last one back, which libedit then holds.
      if (has_waited_ || typed_.size() < left) {
        may_wait_ = false;
        edit();
        may_wait_ = true;
      }
      has_waited_ = false;
    }
  }

  std::optional<std::string> next_line() override {
    if (lines_.empty()) return std::nullopt;
    std::string line = std::move(lines_.front());
    lines_.pop_front();
    return line;
  }
  bool has_ended() const override { return has_ended_ && lines_.empty(); }
  bool is_terminal() const override { return true; }

  void hide() override {
    if (!std::exchange(is_shown_, false)) return;
    const ::LineInfo* const line = ::el_line(editor_);
    erase(width_of(
        {line->buffer, static_cast<std::size_t>(line->cursor - line->buffer)}));
  }
  void show() override {
    if (!is_editing_ || std::exchange(is_shown_, true)) return;
    ::el_set(editor_, EL_REFRESH);
  }
  void resize() override {
    hide();
    ::el_resize(editor_);
    show();
  }
  void suspend() override {
    const ::LineInfo* const line = ::el_line(editor_);
    kept_.assign(line->buffer, line->lastchar);
    stop_editing();
  }
  void resume() override {
    start_editing();
    if (kept_.empty()) return;
    ::el_insertstr(editor_, kept_.c_str());
    ::el_set(editor_, EL_REFRESH);
  }

 private:
  void load_history() {
    if (history_file_.empty()) return;
    const HistoryFile file = look_at(history_file_);
    HistEvent event{};
    const bool is_loaded =
        !file.can_load ||
        ::history(history_, &event, H_LOAD, history_file_.c_str()) >= 0;
    if (file.can_save && is_loaded) return;
    report_(file.can_save ? history_file_ +
                                ": cannot read it; the history is "
                                "not kept"
                          : file.fault);
    history_file_.clear();
  }

  // The file may have become another one.
  void save_history() noexcept try {
    if (history_file_.empty()) return;
    const HistoryFile file = look_at(history_file_);
    HistEvent event{};
    if (!file.can_save) {
      report_(file.fault);
    } else if (::history(history_, &event, H_SAVE, history_file_.c_str()) < 0) {
      report_(history_file_ + ": cannot write it; the history is not kept");
    }
  } catch (const std::exception&) {
    // Out of memory at the end: then there is no history.
  }

  // The terminal is libedit's, or as it was.
  void start_editing() {
    if (std::exchange(is_editing_, true)) return;
    ::el_set(editor_, EL_UNBUFFERED, 1);  // draws the prompt
    is_shown_ = true;
  }
  void stop_editing() {
    if (std::exchange(is_editing_, false)) ::el_set(editor_, EL_UNBUFFERED, 0);
  }

  static char* prompt(EditLine*) {
    static char text[sizeof kPrompt] = {};
    std::memcpy(text, kPrompt, sizeof text);
    return text;
  }

  // What libedit reads from: what read() has taken from the terminal. Waits for
  // more in the middle of a key only.
  static int get_character(EditLine* editor, wchar_t* character) {
    void* self = nullptr;
    ::el_get(editor, EL_CLIENTDATA, &self);
    return static_cast<LineEditor*>(self)->take_character(*character) ? 1 : 0;
  }

  bool take_character(wchar_t& character) {
    while (typed_.empty()) {
      if (!may_wait_) return false;
      has_waited_ = true;
      if (!wait_for_key_() || !fill()) return false;
    }
    std::mbstate_t state{};
    const std::size_t size =
        std::mbrtowc(&character, typed_.data(), typed_.size(), &state);
    if (size == 0 || size > typed_.size()) {  // not of the locale's encoding
      character = static_cast<unsigned char>(typed_[0]);
      typed_.erase(0, 1);
    } else {
      typed_.erase(0, size);
    }
    return true;
  }

  // False at the end: the terminal has gone.
  bool fill() {
    std::array<char, 1024> piece;
    const ::ssize_t n = ::read(STDIN_FILENO, piece.data(), piece.size());
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) return true;
    if (n <= 0) has_ended_ = true;
    if (n > 0) typed_.append(piece.data(), static_cast<std::size_t>(n));
    return n > 0;
  }

  // One key.
  void edit() {
    int count = 0;
    const char* const text = ::el_gets(editor_, &count);
    if (text == nullptr || count <= 0) return;
    const std::string_view line(text, static_cast<std::size_t>(count));
    if (line.back() == '\n' || line.back() == '\r') {
      finish(std::string(line.substr(0, line.size() - 1)));
    } else if (count == 1 && line[0] == kEndOfInput) {
      has_ended_ = true;
    }
  }

  // The line as it was sent stands in the place of the line as it was typed.
  void finish(std::string line) {
    stop_editing();
    // libedit has put the cursor below it.
    std::fputs("\x1b[A", out_);
    erase(width_of(line));
    if (!line.empty()) {
      HistEvent event{};
      ::history(history_, &event, H_ENTER, line.c_str());
    }
    lines_.push_back(std::move(line));
    start_editing();
  }

  // From the beginning of the prompt; the cursor stands behind `width` cells of
  // the text.
  void erase(std::size_t width) {
    const std::size_t rows = (sizeof kPrompt - 1 + width) / columns();
    std::fputs("\r", out_);
    if (rows > 0) std::fprintf(out_, "\x1b[%zuA", rows);
    std::fputs("\x1b[J", out_);
    std::fflush(out_);
  }

  std::string history_file_;  // empty: none
  const std::function<bool()> wait_for_key_;
  const std::function<void(const std::string& text)> report_;
  std::FILE* const out_ = open_output();
  ::EditLine* editor_ = nullptr;
  ::History* history_ = nullptr;
  bool is_editing_ = false;
  bool is_shown_ = false;
  bool may_wait_ = true;
  bool has_waited_ = false;  // in the middle of a key
  bool has_ended_ = false;
  std::string kept_;   // that was being edited at suspend()
  std::string typed_;  // that libedit has not taken
  std::deque<std::string> lines_;
};

}  // namespace

std::unique_ptr<Input> make_line_editor(
    const std::string& history, std::function<bool()> wait_for_key,
    std::function<void(const std::string& text)> report) {
  auto editor = std::make_unique<LineEditor>(history, std::move(wait_for_key),
                                             std::move(report));
  if (!editor->is_good()) return nullptr;
  return editor;
}

}  // namespace tcpip_monitor

#else

namespace tcpip_monitor {

std::unique_ptr<Input> make_line_editor(
    const std::string&, std::function<bool()>,
    std::function<void(const std::string& text)>) {
  return nullptr;
}

}  // namespace tcpip_monitor

#endif
