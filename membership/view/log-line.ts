// Serf's log lines, used only as a trigger for a member query; their content is not trusted.

type SerfEvent = 'join' | 'leave' | 'failed' | 'update' | 'reap' | 'conflict'

const EVENTS: readonly (readonly [RegExp, SerfEvent])[] = [
  [/serf: EventMemberJoin: /, 'join'],
  [/serf: EventMemberLeave(?: \(forced\))?: /, 'leave'],
  [/serf: EventMemberFailed: /, 'failed'],
  [/serf: EventMemberUpdate: /, 'update'],
  [/serf: EventMemberReap: /, 'reap'],
  [/[Nn]ame conflict|[Cc]onflicting address/, 'conflict']
]

/** The member event that a line reports, or null. */
export function readLogLine(line: string): SerfEvent | null {
  const head = line.slice(0, 400)
  return EVENTS.find(([pattern]) => pattern.test(head))?.[1] ?? null
}
