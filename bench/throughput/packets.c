// Small UDP packets as fast as one processor sends them, many in one system call, so that what is measured is their way and
// not the program.
//   packets hold ADDRESS PORT     has a socket that takes them in; they are counted by the kernel, and never read
//   packets send ADDRESS PORT     sends until it is ended

#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// Neither end outlives a bench that is killed.
#define MAX_SECONDS 60
#define PAYLOAD_BYTES 64
#define AT_ONCE 64

// Of either family. Never freed: there is one in a run.
static const struct addrinfo *address_of(const char *text, const char *port) {
  struct addrinfo hints = {.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_DGRAM}, *found;
  if (getaddrinfo(text, port, &hints, &found) != 0) errx(1, "%s is no address", text);
  return found;
}

static int open_socket(const struct addrinfo *address) {
  int fd = socket(address->ai_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) err(1, "socket");
  return fd;
}

static void hold(const struct addrinfo *address) {
  if (bind(open_socket(address), address->ai_addr, address->ai_addrlen) != 0) err(1, "bind");
  for (;;) pause();
}

static void send_all(int fd) {
  char payload[PAYLOAD_BYTES] = {0};
  struct iovec vector = {.iov_base = payload, .iov_len = sizeof payload};
  struct mmsghdr messages[AT_ONCE];
  memset(messages, 0, sizeof messages);
  for (int i = 0; i < AT_ONCE; i++) messages[i].msg_hdr = (struct msghdr){.msg_iov = &vector, .msg_iovlen = 1};
  for (;;)
    if (sendmmsg(fd, messages, AT_ONCE, 0) < 0 && errno != ENOBUFS) err(1, "sendmmsg");
}

int main(int argc, char **argv) {
  alarm(MAX_SECONDS);
  if (argc == 4 && strcmp(argv[1], "hold") == 0) hold(address_of(argv[2], argv[3]));
  if (argc != 4 || strcmp(argv[1], "send") != 0) errx(2, "usage: packets hold|send ADDRESS PORT");
  const struct addrinfo *address = address_of(argv[2], argv[3]);
  int fd = open_socket(address);
  if (connect(fd, address->ai_addr, address->ai_addrlen) != 0) err(1, "connect");
  send_all(fd);
}
