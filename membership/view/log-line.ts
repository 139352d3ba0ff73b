// Serf's log lines, as a trigger only: they say that it is worth asking for the members, never what they are.

export type SerfEvent = 'join' | 'leave' | 'failed' | 'update' | 'reap' | 'conflict'

const EVENTS: readonly (readonly [RegExp, SerfEvent])[] = [
  [/serf: EventMemberJoin: /, 'join'],
  [/serf: EventMemberLeave(?: \(forced\))?: /, 'leave'],
  [/serf: EventMemberFailed: /, 'failed'],
  [/serf: EventMemberUpdate: /, 'update'],
  [/serf: EventMemberReap: /, 'reap'],
  [/[Nn]ame conflict|[Cc]onflicting address/, 'conflict']
]

/** The member event that a line tells of, or null. */
export function readLogLine(line: string): SerfEvent | null {
  const head = line.slice(0, 400)
  return EVENTS.find(([pattern]) => pattern.test(head))?.[1] ?? null
}
