import t from 'tap'
import { memberInLine, readLogLine } from '#membership/view/log-line.ts'

const lines: readonly (readonly [line: string, event: string | null])[] = [
  ['2026/01/02 03:04:05 [INFO] serf: EventMemberJoin: h2 192.0.2.2', 'join'],
  ['2026/01/02 03:04:05 [INFO] serf: EventMemberLeave: h2 192.0.2.2', 'leave'],
  ['2026/01/02 03:04:05 [INFO] serf: EventMemberLeave (forced): h2 192.0.2.2', 'leave'],
  ['2026/01/02 03:04:05 [INFO] serf: EventMemberFailed: h2 192.0.2.2', 'failed'],
  ['2026/01/02 03:04:05 [INFO] serf: EventMemberUpdate: h2', 'update'],
  ['2026/01/02 03:04:05 [INFO] serf: EventMemberReap: h2', 'reap'],
  [
    '2026/01/02 03:04:05 [ERR] memberlist: Conflicting address for h2. Mine: 192.0.2.2:7946 Theirs: 192.0.2.3:7946',
    'conflict'
  ],
  ['2026/01/02 03:04:05 [ERR] serf: Node name conflicts with another node at 192.0.2.3:7946.', 'conflict'],
  ['2026/01/02 03:04:05 [INFO] agent: Received event: member-join', null],
  ['2026/01/02 03:04:05 [INFO] serf: attempting reconnect to h2 192.0.2.2:7946', null],
  ['EventMemberJoin: h2', null],
  ['serf: eventmemberjoin: h2', null],
  ['serf: EventMemberJoin', null],
  ['', null],
  ['\0\x1b[31m', null],
  [`${'x'.repeat(1_000_000)} serf: EventMemberJoin: h2`, null]
]
for (const [line, event] of lines) {
  t.test(`${JSON.stringify(line.slice(0, 80))} is ${event ?? 'no event'}`, t => {
    t.equal(readLogLine(line), event)
    t.end()
  })
}

t.test('a line names its member unless the name is none that a host may have', t => {
  for (const [line, name] of [
    ['2026/01/02 03:04:05 [INFO] serf: EventMemberJoin: h2 192.0.2.2', 'h2'],
    ['2026/01/02 03:04:05 [INFO] serf: EventMemberLeave (forced): h-2.example 192.0.2.2', 'h-2.example'],
    ['2026/01/02 03:04:05 [INFO] serf: EventMemberUpdate: h2', 'h2'],
    ['2026/01/02 03:04:05 [INFO] serf: EventMemberJoin: .*|h1 192.0.2.2', null],
    ['2026/01/02 03:04:05 [INFO] serf: EventMemberJoin: H2 192.0.2.2', null],
    [`2026/01/02 03:04:05 [INFO] serf: EventMemberJoin: ${'h'.repeat(64)} 192.0.2.2`, null],
    ['2026/01/02 03:04:05 [ERR] serf: Node name conflicts with another node at 192.0.2.3:7946.', null]
  ] as const) {
    t.equal(memberInLine(line), name, line)
  }
  t.end()
})
