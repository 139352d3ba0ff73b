import t from 'tap'
import { VxmeshError } from '#model/errors.ts'
import { isErrno, storageError } from '#platform/storage-error.ts'

t.test('an error code is read from errors alone', t => {
  const enoent = Object.assign(new Error('x'), { code: 'ENOENT' })
  t.equal(isErrno(enoent, 'ENOENT'), true)
  for (const other of [enoent, new Error('ENOENT'), { code: 'EEXIST' }, 'EEXIST', null, undefined]) {
    t.equal(isErrno(other, 'EEXIST'), false)
  }
  t.end()
})

t.test('a storage error names what failed and why, and is wrapped only once', t => {
  const cause = new Error('ENOSPC: no space')
  const wrapped = storageError('cannot write x', cause)
  t.match(wrapped, { code: 'ERR_STORAGE', message: 'cannot write x: ENOSPC: no space' })
  t.equal(wrapped.cause, cause)
  t.equal(storageError('outer', wrapped), wrapped)
  t.match(storageError('outer', new VxmeshError('ERR_BUSY', 'busy')), { code: 'ERR_STORAGE', message: 'outer: busy' })
  t.match(storageError('outer', 'text'), { message: 'outer: text' })
  t.end()
})
