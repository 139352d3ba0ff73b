import { pino } from 'pino'
import t from 'tap'
import { DigestCheck, type DigestNote } from '#agent/observe/digest-check.ts'
import type { LogIndex } from '#model/ids.ts'
import { parsePeerId } from '#model/ids.ts'

const [SELF, LEADER] = [parsePeerId(`12D3KooW${'a'.repeat(44)}`), parsePeerId(`12D3KooW${'b'.repeat(44)}`)]

/** A host that has applied so many entries; its digest at an index is what `digestAt` gives. */
function host(entries: number, digestAt: (index: number) => string): { check: DigestCheck; notes: DigestNote[] } {
  let index = 0
  const served: (() => unknown)[] = []
  const check = new DigestCheck({
    digest: () => digestAt(index),
    leader: () => LEADER,
    self: SELF,
    ask: () => Promise.reject(new Error('nobody is asked here')),
    serve: (_, answer) => served.push(answer),
    logger: pino({ level: 'silent' })
  })
  for (index = 1; index <= entries; index++) check.applied(index as LogIndex)
  check.start()
  check.stop()
  return { check, notes: served[0]?.() as DigestNote[] }
}

t.test('hosts with the same state agree, however far each is', async t => {
  const { check } = host(1_000, index => `d${index}`)
  check.compare(host(5_000, index => `d${index}`).notes)
  check.compare(host(100, index => `d${index}`).notes)
  t.equal(check.differsAt, null)
})

t.test('a difference is told with the first index at which it was seen', async t => {
  const { check } = host(2_000, index => `d${index}`)
  check.compare(host(2_000, index => (index < 700 ? `d${index}` : `e${index}`)).notes)
  t.equal(check.differsAt, 704)
  check.compare(host(2_000, index => `f${index}`).notes)
  t.equal(check.differsAt, 704, 'and stays')
})

t.test('hosts that have no index in common say nothing about each other', async t => {
  const { check } = host(50_000, index => `d${index}`)
  check.compare(host(1_000, index => `e${index}`).notes)
  t.equal(check.differsAt, null)
})

t.test('notes are bounded', async t => {
  t.equal(host(100_000, index => `d${index}`).notes.length, 256)
})
