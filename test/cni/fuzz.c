// Feeds the plugin's two parsers with mutated inputs under the sanitizers: fuzz ROUNDS SEED. Built by fuzz.test.ts.
// What it parsed must lie within the input; any overrun ends the program with the sanitizer's report.

#define main plugin_main
#include "../../cni/vxmesh-cni.c"
#undef main

#include <assert.h>
#include <stdint.h>

static uint64_t state;

static uint32_t next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 16);
}

static const char *const SAMPLES[] = {
    "{\"cniVersion\":\"1.1.0\",\"name\":\"mesh\",\"socket\":\"/run/vx\\u002fmesh\\/agent.sock\",\"a\":[1,{\"b\":\"\\\"}\"}]}",
    " { \"socket\" : \"/a\" , \"socket\":\"/b\\\\\" , \"x\":{\"socket\":1} } \n",
    "{}",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nX: y\r\n\r\n{ }\n",
    "HTTP/1.1 422 No\r\ncontent-length:0\r\n\r\n",
};

static bool within(struct text part, struct text whole) {
  return part.at == NULL || (part.at >= whole.at && part.at + part.length <= whole.at + whole.length);
}

int main(int argc, char **argv) {
  assert(argc == 3);
  long rounds = strtol(argv[1], NULL, 10), objects = 0, answers = 0;
  state = strtoull(argv[2], NULL, 10) * 2654435761u + 1;
  for (long round = 0; round < rounds; round++) {
    const char *sample = SAMPLES[next() % 5];
    size_t length = strlen(sample);
    // Allocated with exactly its length, so that the sanitizer detects a read of one byte more.
    char *copy = malloc(length + 1);
    assert(copy != NULL);
    memcpy(copy, sample, length);
    for (uint32_t n = next() % 4; n > 0 && length > 0; n--) {
      static const char ODD[] = "\"\\{}[],:u0 \r\n\0\xff/9a";
      copy[next() % length] = ODD[next() % (sizeof ODD - 1)];
    }
    if (next() % 3 == 0) length = next() % (length + 1);
    char *exact = malloc(length > 0 ? length : 1);
    assert(exact != NULL);
    memcpy(exact, copy, length);
    struct text input = {exact, length};
    struct config config = {{NULL, 0}, {NULL, 0}};
    struct answer answer = {0, {NULL, 0}};
    char path[108];
    if (scan_config(input, &config)) objects++;
    assert(within(config.socket, input) && within(config.version, input));
    if (config.socket.at != NULL && decode_string(config.socket, path, sizeof path)) assert(strlen(path) < sizeof path);
    keep_version(config.version);
    assert(strlen(version) <= VERSION_MAX);
    if (parse_answer(input, &answer)) answers++;
    assert(within(answer.body, input));
    free(exact);
    free(copy);
  }
  printf("{\"objects\":%ld,\"answers\":%ld}\n", objects, answers);
  return 0;
}
