import { execFileSync } from 'node:child_process'
import t from 'tap'
import { tar } from '#platform/tar.ts'

const FILES = ['', 'a', 'x'.repeat(511), 'y'.repeat(512), 'z'.repeat(513), 'ü\u0000'].map((text, n) => {
  return { name: `dir/${n}${n === 5 ? 'x'.repeat(94) : ''}.txt`, data: Buffer.from(text) }
})

t.test('Debian’s tar reads names, sizes, times and contents', t => {
  const names = FILES.map(({ name }) => name)
  const files = FILES.map((file, n) => ({ ...file, name: names[n]?.slice(0, 100) ?? '' }))
  const archive = tar(files, { seconds: 1_700_000_000 })
  t.equal(archive.byteLength % 512, 0)
  const run = (...args: string[]): Buffer => execFileSync('tar', args, { input: archive })
  const listed = run('tvf', '-', '--utc', '--full-time').toString().trim().split('\n')
  for (const [n, { name, data }] of files.entries()) {
    t.match(listed[n], new RegExp(`^-rw------- 0/0 +${data.byteLength} 2023-11-14 22:13:20 ${name}$`))
    t.same(run('xOf', '-', name), data, name)
  }
  t.equal(listed.length, files.length)
  t.end()
})

t.test('an empty archive is valid, and an overlong name is an error', t => {
  t.equal(execFileSync('tar', ['tf', '-'], { input: tar([], { seconds: 0 }) }).toString(), '')
  t.throws(() => tar([{ name: 'x'.repeat(101), data: Buffer.alloc(0) }], { seconds: 0 }), /name of over 100 bytes/)
  t.end()
})
