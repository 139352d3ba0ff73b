// vxmesh-cni, the CNI plugin (type vxmesh). It forwards the variables and standard input of a call to the agent in one
// HTTP POST over its UNIX socket, and prints the answer. The agent makes all decisions (src/cni), except without an
// answer: VERSION, and the error when no agent answers. The plugin keeps no state, allocates no memory, and reads only
// `socket` and `cniVersion` of the configuration.
//
// The body is NAME=VALUE of each variable, each terminated by a zero byte, another zero byte, then standard input
// verbatim. The agent answers 200 with the result, or 422 with the error object.

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/vxmesh/agent.sock"
#define NEWEST "1.1.0"
#define SUPPORTED "\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\""

enum {
  STDIN_MAX = 1024 * 1024,
  ENV_MAX = 64 * 1024,
  ANSWER_MAX = 1024 * 1024 + 4096,
  VERSION_MAX = 32,
  // Longer than any timeout of the agent. STATUS is called every few seconds and must not block.
  DEADLINE_S = 60,
  STATUS_DEADLINE_S = 2,
};

// Codes of the specification, and libcni's 999.
enum { BAD_ENVIRONMENT = 4, IO_FAILURE = 5, UNDECODABLE = 6, BAD_CONFIG = 7, TRY_AGAIN = 11, UNAVAILABLE = 50, INTERNAL = 999 };

static const char *const VARIABLES[] = {"CNI_COMMAND", "CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"};

// Part of a buffer; `at` is NULL if absent.
struct text {
  const char *at;
  size_t length;
};

// The configuration values that the plugin needs, still encoded.
struct config {
  struct text socket;
  struct text version;
};

struct answer {
  int status;
  struct text body;
};

static char body[ENV_MAX + STDIN_MAX + 1];
static char received[ANSWER_MAX + 1];
static char version[VERSION_MAX + 1] = NEWEST;

// ---- the configuration: just enough JSON to find two keys

static const char *skip_space(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
  return p;
}

// Returns the position after the closing quote, or NULL.
static const char *skip_string(const char *p, const char *end) {
  if (p >= end || *p != '"') return NULL;
  for (p++; p < end; p++) {
    if (*p == '"') return p + 1;
    if (*p == '\\') p++;
  }
  return NULL;
}

// Returns the position after a value, or NULL. Does not match kinds of brackets: the agent does.
static const char *skip_value(const char *p, const char *end) {
  size_t depth = 0;
  if (p >= end || *p == ',' || *p == ':' || *p == '}' || *p == ']') return NULL;
  while (p < end) {
    if (*p == '"') {
      p = skip_string(p, end);
      if (p == NULL) return NULL;
    } else if (*p == '{' || *p == '[') {
      depth++;
      p++;
    } else if (depth > 0) {
      if (*p == '}' || *p == ']') depth--;
      p++;
    } else {
      while (p < end && strchr(",:{}[]\" \t\r\n", *p) == NULL) p++;
    }
    if (depth == 0) return p;
  }
  return NULL;
}

static bool is_key(struct text key, const char *name) {
  size_t length = strlen(name);
  return key.length == length + 2 && memcmp(key.at + 1, name, length) == 0;
}

// Finds the two keys in the outermost object. The last of repeated keys counts, as in the agent. False if not an object.
static bool scan_config(struct text input, struct config *found) {
  const char *p = input.at, *end = input.at + input.length;
  p = skip_space(p, end);
  if (p >= end || *p != '{') return false;
  p = skip_space(p + 1, end);
  if (p < end && *p == '}') return skip_space(p + 1, end) == end;
  while (true) {
    struct text key = {p, 0}, value;
    p = skip_string(p, end);
    if (p == NULL) return false;
    key.length = (size_t)(p - key.at);
    p = skip_space(p, end);
    if (p >= end || *p != ':') return false;
    value.at = skip_space(p + 1, end);
    p = skip_value(value.at, end);
    if (p == NULL) return false;
    value.length = (size_t)(p - value.at);
    if (is_key(key, "socket")) found->socket = value;
    if (is_key(key, "cniVersion")) found->version = value;
    p = skip_space(p, end);
    if (p >= end) return false;
    if (*p == '}') return skip_space(p + 1, end) == end;
    if (*p != ',') return false;
    p = skip_space(p + 1, end);
  }
}

static int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Decodes a JSON string into `into`, with a terminating zero byte. False if it is not a string, too long, or has an
// escape that a path does not need.
static bool decode_string(struct text value, char *into, size_t size) {
  if (value.length < 2 || value.at[0] != '"') return false;
  const char *p = value.at + 1, *end = value.at + value.length - 1;
  size_t length = 0;
  while (p < end) {
    char c = *p++;
    if (c == '\\') {
      if (p >= end) return false;
      c = *p++;
      if (c == 'u') {
        if (end - p < 4 || p[0] != '0' || p[1] != '0') return false;
        int high = hex_digit(p[2]), low = hex_digit(p[3]);
        if (high < 0 || low < 0) return false;
        int decoded = high * 16 + low;
        if (decoded < 0x20 || decoded > 0x7e) return false;
        c = (char)decoded;
        p += 4;
      } else if (c != '"' && c != '\\' && c != '/') {
        return false;
      }
    } else if (c == '\0') {
      return false;
    }
    if (length + 1 >= size) return false;
    into[length++] = c;
  }
  into[length] = '\0';
  return true;
}

// Keeps the version for answers, if it is safe to print.
static void keep_version(struct text value) {
  char given[VERSION_MAX + 1];
  if (value.at == NULL || !decode_string(value, given, sizeof given) || given[0] == '\0') return;
  if (strspn(given, "0123456789.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+-") != strlen(given)) return;
  memcpy(version, given, sizeof version);
}

// ---- output

static void print_json_text(const char *text) {
  putchar('"');
  for (const char *p = text; *p != '\0'; p++) {
    unsigned char c = (unsigned char)*p;
    if (c == '"' || c == '\\') putchar('\\');
    putchar(c < 0x20 || c > 0x7e ? '?' : c);
  }
  putchar('"');
}

// Prints the error object of the specification.
static int fail(int code, const char *message, const char *details) {
  printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":", version, code);
  print_json_text(message);
  fputs(",\"details\":", stdout);
  print_json_text(details);
  puts("}");
  return 1;
}

// ---- the exchange

// Writes the variables that are set to the start of the body. Returns 0 if they are too long.
static size_t carry_environment(void) {
  size_t length = 0;
  for (size_t i = 0; i < sizeof VARIABLES / sizeof VARIABLES[0]; i++) {
    const char *value = getenv(VARIABLES[i]);
    if (value == NULL) continue;
    size_t room = ENV_MAX - 1 - length;
    int written = snprintf(body + length, room, "%s=%s", VARIABLES[i], value);
    if (written < 0 || (size_t)written >= room) return 0;
    length += (size_t)written + 1;
  }
  body[length] = '\0';
  return length + 1;
}

// Reads standard input to its end. Returns -1 on failure, and more than STDIN_MAX if the input is longer.
static ssize_t read_input(char *into) {
  size_t length = 0;
  while (length <= STDIN_MAX) {
    ssize_t got = read(STDIN_FILENO, into + length, STDIN_MAX + 1 - length);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    length += (size_t)got;
  }
  return (ssize_t)length;
}

static int connect_agent(const struct sockaddr_un *address, int deadline_s) {
  struct timeval deadline = {.tv_sec = deadline_s, .tv_usec = 0};
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -1;
  // connect blocks while the agent's queue is full. Each blocking call has this timeout.
  if (setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &deadline, sizeof deadline) != 0 ||
      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &deadline, sizeof deadline) != 0 ||
      connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
    int why = errno;
    close(fd);
    errno = why;
    return -1;
  }
  return fd;
}

static bool send_all(int fd, const char *at, size_t length) {
  while (length > 0) {
    ssize_t sent = send(fd, at, length, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    at += sent;
    length -= (size_t)sent;
  }
  return true;
}

// Reads until the agent closes. Returns -1 with errno on failure, and more than ANSWER_MAX if the answer is longer.
static ssize_t receive_all(int fd) {
  size_t length = 0;
  while (length <= ANSWER_MAX) {
    ssize_t got = recv(fd, received + length, ANSWER_MAX + 1 - length, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -1;
    if (got == 0) break;
    length += (size_t)got;
  }
  return (ssize_t)length;
}

// The value of a header line if it has this name, or NULL.
static const char *header_value(struct text line, const char *name) {
  size_t length = strlen(name);
  if (line.length <= length || line.at[length] != ':' || strncasecmp(line.at, name, length) != 0) return NULL;
  return skip_space(line.at + length + 1, line.at + line.length);
}

// Parses a complete HTTP/1.1 answer. False for anything else: a truncated result must not pass for a result.
static bool parse_answer(struct text input, struct answer *into) {
  static const char START[] = "HTTP/1.1 ";
  const char *p = input.at, *end = input.at + input.length;
  bool has_length = false;
  size_t length = 0;
  if (input.length < sizeof START + 2 || memcmp(p, START, sizeof START - 1) != 0) return false;
  into->status = 0;
  for (int i = 0; i < 3; i++) {
    char c = p[sizeof START - 1 + (size_t)i];
    if (c < '0' || c > '9') return false;
    into->status = into->status * 10 + (c - '0');
  }
  while (true) {
    const char *line_end = memmem(p, (size_t)(end - p), "\r\n", 2);
    if (line_end == NULL) return false;
    struct text line = {p, (size_t)(line_end - p)};
    p = line_end + 2;
    if (line.length == 0) break;
    const char *value = header_value(line, "content-length");
    if (value == NULL) continue;
    if (value == line_end || has_length) return false;
    has_length = true;
    for (; value < line_end; value++) {
      if (*value < '0' || *value > '9' || length > ANSWER_MAX) return false;
      length = length * 10 + (size_t)(*value - '0');
    }
  }
  into->body = (struct text){p, (size_t)(end - p)};
  return has_length && into->body.length == length;
}

static int report(struct text input, int unreachable) {
  struct answer answer;
  if (input.length == 0) return fail(unreachable, "the agent closed the connection without an answer", "it was stopped during the call; repeat the call");
  if (!parse_answer(input, &answer)) return fail(unreachable, "the agent's answer is truncated or malformed", "repeat the call");
  if (answer.status == 200 || answer.status == 422) {
    bool printed = fwrite(answer.body.at, 1, answer.body.length, stdout) == answer.body.length;
    if (answer.body.length > 0) putchar('\n');
    return printed && fflush(stdout) == 0 && answer.status == 200 ? 0 : 1;
  }
  if (answer.status >= 500) return fail(unreachable, "the agent cannot take calls now", "repeat the call; see vxmesh status");
  return fail(INTERNAL, "the agent does not know this call", "is the agent older than the plugin? see vxmesh version");
}

static int carry(const char *command, const char *path, size_t length) {
  bool is_status = strcmp(command, "STATUS") == 0;
  int unreachable = is_status ? UNAVAILABLE : TRY_AGAIN;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  char head[256];
  memcpy(address.sun_path, path, strlen(path));
  int fd = connect_agent(&address, is_status ? STATUS_DEADLINE_S : DEADLINE_S);
  if (fd < 0) {
    char details[256];
    snprintf(details, sizeof details, "%s: %s; is the agent running?", path, strerror(errno));
    return fail(unreachable, "no agent answers on this host", details);
  }
  int head_length = snprintf(head, sizeof head,
                             "POST /v1/cni HTTP/1.1\r\nHost: vxmesh\r\nContent-Type: application/vnd.vxmesh.cni\r\n"
                             "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                             length);
  // An agent that refuses early closes before everything is sent; its answer is read nevertheless.
  if (send_all(fd, head, (size_t)head_length)) send_all(fd, body, length);
  ssize_t got = receive_all(fd);
  int why = errno;
  close(fd);
  if (got < 0) return fail(unreachable, why == EAGAIN ? "the agent did not answer in time" : "the connection to the agent was lost during the call", strerror(why));
  return report((struct text){received, (size_t)got}, unreachable);
}

int main(void) {
  const char *command = getenv("CNI_COMMAND");
  char path[sizeof((struct sockaddr_un *)NULL)->sun_path] = DEFAULT_SOCKET;
  struct config config = {{NULL, 0}, {NULL, 0}};
  if (command == NULL || *command == '\0') {
    return fail(BAD_ENVIRONMENT, "CNI_COMMAND is missing", "this is a CNI plugin: a container runtime calls it");
  }
  size_t head = carry_environment();
  if (head == 0) return fail(BAD_ENVIRONMENT, "CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME or CNI_ARGS is too long", "64 KiB at most together");
  ssize_t length = read_input(body + head);
  if (length < 0) return fail(IO_FAILURE, "standard input cannot be read", strerror(errno));
  if (length > STDIN_MAX) return fail(UNDECODABLE, "the configuration is over 1 MiB", "standard input");
  struct text input = {body + head, (size_t)length};
  bool is_object = scan_config(input, &config);
  keep_version(config.version);
  if (strcmp(command, "VERSION") == 0) {
    return printf("{\"cniVersion\":\"%s\",\"supportedVersions\":[" SUPPORTED "]}\n", version) < 0 ? 1 : 0;
  }
  if (!is_object) return fail(UNDECODABLE, "the configuration is not a JSON object", "standard input");
  if (config.socket.at != NULL && (!decode_string(config.socket, path, sizeof path) || path[0] != '/')) {
    return fail(BAD_CONFIG, "socket: must be an absolute path of at most 107 characters", "key socket of the configuration");
  }
  return carry(command, path, head + (size_t)length);
}
