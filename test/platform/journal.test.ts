import { closeSync, fstatSync, openSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { isJournal, priority } from '#platform/journal.ts'

t.test('a descriptor is the journal exactly when JOURNAL_STREAM names its device and inode', t => {
  const fd = openSync(join(t.testdir(), 'stderr'), 'w')
  t.teardown(() => closeSync(fd))
  const { dev, ino } = fstatSync(fd, { bigint: true })
  t.equal(isJournal({ JOURNAL_STREAM: `${dev}:${ino}` }, fd), true)
  for (const [what, stream] of [
    ['unset', undefined],
    ['empty', ''],
    ['another inode', `${dev}:${ino + 1n}`],
    ['another device', `${dev + 1n}:${ino}`],
    ['no device', `${ino}`],
    ['trailing text', `${dev}:${ino} `]
  ] as const) {
    t.equal(isJournal({ JOURNAL_STREAM: stream }, fd), false, what)
  }
  t.equal(isJournal({ JOURNAL_STREAM: `${dev}:${ino}` }, 1_000_000), false, 'a descriptor that is not open')
  t.end()
})

t.test('a priority is the syslog level in angle brackets', t => {
  t.same((['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const).map(priority), [
    '<7>',
    '<7>',
    '<6>',
    '<4>',
    '<3>',
    '<2>'
  ])
  t.end()
})
