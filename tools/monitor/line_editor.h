// A prompt with editing and history, by libedit.
//
// What is typed stays as it is while text comes: hide() takes the prompt away,
// show() draws it again behind that text.
//
// Threads: for the main thread.
#ifndef TOOLS_MONITOR_LINE_EDITOR_H_
#define TOOLS_MONITOR_LINE_EDITOR_H_

#include <memory>
#include <string>

#include "tools/monitor/terminal.h"

namespace tcpip_monitor {

// Null if the program was built without libedit, or if that refuses the
// terminal. `history` is a file, or empty. A key that needs others behind it
// (the search, Ctrl-R) waits for them, until `interrupt_fd` is readable.
std::unique_ptr<Input> make_line_editor(const std::string& history,
                                        int interrupt_fd);

}  // namespace tcpip_monitor

#endif  // TOOLS_MONITOR_LINE_EDITOR_H_
