// Whether each mutation is noticed takes a minute: `npm test -- simulation`.
import { describe, expect, test } from 'vitest'
import { read, readTable } from '../support/docs.js'
import { mutationNames } from './mutations.js'
import { mutatedSource, sourceMutations } from './source-mutations.mjs'

const documented = readTable('docs/reliability.md', 'mutations')

describe('docs/reliability.md', () => {
  test('lists each mutation', () => {
    expect([...documented.keys()]).toEqual([...mutationNames, ...Object.keys(sourceMutations)])
  })

  test('names the unit test that notices one', () => {
    for (const [name, mutation] of Object.entries(sourceMutations)) {
      const by = documented.get(name)?.get('Noticed as')
      if (mutation.test) expect(by).toBe(`${mutation.test.file}: ${mutation.test.title}`)
      else expect(by).not.toContain('.test.ts')
    }
  })
})

test.each(Object.keys(sourceMutations))('the mutation "%s" still fits the source', (name) => {
  const { file = '' } = sourceMutations[name] ?? {}
  expect(mutatedSource(name)).not.toBe(read(file))
})
