// A prompt with editing and history, by libedit.
//
// What is typed stays as it is while text comes: hide() takes the prompt away,
// show() draws it again behind that text.
//
// Threads: for the main thread.
#ifndef TOOLS_MONITOR_LINE_EDITOR_H_
#define TOOLS_MONITOR_LINE_EDITOR_H_

#include <functional>
#include <memory>
#include <string>

#include "tools/monitor/terminal.h"

namespace tcpip_monitor {

// Null if the program was built without libedit, or if that refuses the
// terminal. `history` is a file, or empty; it is read now and written at the
// end. `report` is told, once, why that cannot be: a file that is no history is
// left alone. A key that needs others behind it
// (the search, Ctrl-R) calls `wait_for_key`, which returns true once the
// standard input is readable; it may hide() and show() meanwhile. If it returns
// false, the key ends.
std::unique_ptr<Input> make_line_editor(
    const std::string& history, std::function<bool()> wait_for_key,
    std::function<void(const std::string& text)> report);

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_LINE_EDITOR_H_
