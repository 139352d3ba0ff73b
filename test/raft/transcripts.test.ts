// Runs every file of transcripts/ and compares it with the result. UPDATE_TRANSCRIPTS=1 rewrites the files, so that
// their diff can be reviewed.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { runTranscript } from './transcript.ts'

const FOLDER = join(import.meta.dirname, 'transcripts')
const isUpdating = process.env['UPDATE_TRANSCRIPTS'] === '1'
const files = readdirSync(FOLDER).filter(name => name.endsWith('.txt') && name !== 'README.txt')

t.test('there are at least ten scenarios', t => {
  t.ok(files.length >= 10, `${files.length} scenarios`)
  t.end()
})

for (const file of files) {
  t.test(`the core still behaves as ${file} says`, t => {
    const path = join(FOLDER, file)
    const before = readFileSync(path, 'utf8')
    const after = runTranscript(before)
    if (isUpdating) writeFileSync(path, after)
    else t.equal(after, before)
    t.equal(runTranscript(after), after, 'running it again gives the same text')
    t.end()
  })
}

t.test('a line that the core does not produce is noticed, and so is an unknown directive', t => {
  const [file = ''] = files
  const source = readFileSync(join(FOLDER, file), 'utf8')
  const tampered = source.replace('is leader of term 1', 'is leader of term 2')
  t.not(tampered, source)
  t.not(runTranscript(tampered), tampered)
  t.throws(() => runTranscript('> cluster s1\n> dance s1\n'), /no directive is named dance/)
  t.throws(() => runTranscript('> show\n'), /begins with a cluster/)
  t.throws(() => runTranscript('> cluster s1\n> restart s9\n'), /no server s9/)
  t.end()
})
