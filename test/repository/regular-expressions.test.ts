import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import ts from 'typescript'
import { expect, test } from 'vitest'
import { limit } from '../support/machine.mjs'

// What a server, an API or a script writes can be as long as it likes, and a worker that is busy
// with it answers nobody.

const files = ['src', 'sw'].flatMap((folder) =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => join(folder, file)),
)

const expressions = new Map<string, RegExp>()
for (const file of files) {
  const source = ts.createSourceFile(file, readFileSync(file, 'utf8'), ts.ScriptTarget.ES2022)
  const visit = (node: ts.Node): void => {
    if (ts.isRegularExpressionLiteral(node)) {
      const [, pattern = '', flags] = /^\/(.*)\/(\w*)$/.exec(node.text) ?? []
      expressions.set(node.text, new RegExp(pattern, flags))
    }
    ts.forEachChild(node, visit)
  }
  visit(source)
}

const length = 20_000
const bits = ['a', '0', '-', '.', '/', ' ', '\\', ';', '%', '=', '"', "'", '=""', '%2e', '%E9', 'é']
const hostile = bits.flatMap((one) =>
  bits.map((other) => `${(one + other).repeat(length / (one + other).length)}\0`),
)

/** ms. Linear: less than 1. Quadratic: 500. */
const most = limit(100)

const time = (expression: RegExp, text: string): number => {
  const startedAt = performance.now()
  text.replace(expression, '')
  return performance.now() - startedAt
}

/** Does it take long? Once can be the machine. */
const isSlow = (expression: RegExp, text: string): boolean =>
  [1, 2, 3].every(() => time(expression, text) > most)

test('all regular expressions are found', () => {
  expect(expressions.size).toBeGreaterThan(30)
})

test.each([...expressions.keys()])('%s takes no longer than its text is long', (text) => {
  const expression = expressions.get(text) as RegExp
  const slow = hostile.find((each) => isSlow(expression, each))
  expect(slow?.slice(0, 20)).toBeUndefined()
})

test('one that takes longer is noticed', () => {
  expect(isSlow(/([\w-]+)\s*=\s*"/g, 'a'.repeat(length))).toBe(true)
})
