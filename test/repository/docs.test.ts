import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, dirname, join, normalize } from 'node:path'
import { describe, expect, test } from 'vitest'
import { TokenError, type TokenErrorCode } from '../../src/shared/errors.js'
import { outcomesOf, scenarios, tableOf } from '../simulation/fleet-report.js'
import { measure } from '../size.mjs'
import {
  anchors,
  type CodeBlock,
  links,
  markdownFiles,
  members,
  parse,
  read,
  root,
  section,
  tableRows,
  typeCheck,
} from '../support/docs.js'

const readme = () => parse('README.md').text
const code = (name: string) => `\`${name}\``
/** Compiling takes seconds; on a busy machine, many. */
const slow = { timeout: 60_000 }

describe('the code in the docs', () => {
  const isCode = ({ language }: CodeBlock) => /^[jt]sx?$/.test(language)
  const blocks = markdownFiles().flatMap((file) => parse(file).blocks.filter(isCode))
  const at = (place: string) => blocks.filter((block) => block.place === place)

  test('says where it runs, or why it is not compiled', () => {
    const unclear = blocks.filter(({ place }) => !/^(page|worker|skip: .{10,})$/.test(place))
    expect(unclear.map(({ file, line }) => `${file}:${line}`)).toEqual([])
  })

  test('compiles in a page', slow, () => {
    expect(at('page').length).toBeGreaterThan(5)
    expect(typeCheck('page', at('page'))).toEqual([])
  })

  test('compiles in a worker, but for a mistake put there on purpose', slow, () => {
    expect(at('worker').length).toBeGreaterThan(3)
    const code = "tokenward.createTokenWorker({ issuer: '', clientId: 1, apis: [] })\n"
    const wrong = { file: 'wrong.md', line: 7, language: 'js', place: 'worker', code }
    const [first, ...others] = typeCheck('worker', [...at('worker'), wrong])
    expect(first).toMatch(/^wrong\.md:7 Type 'number' is not assignable/)
    expect(others).toEqual([])
  })
})

describe('links', () => {
  test.each(markdownFiles())('in %s lead somewhere', (file) => {
    const broken = links(file).filter((target) => {
      if (/^[a-z]+:/.test(target)) return false
      const [path = '', anchor] = target.split('#')
      const goal = path ? normalize(join(dirname(file), path)) : file
      if (!existsSync(join(root, goal))) return true
      return anchor !== undefined && !anchors(goal).includes(anchor)
    })
    expect(broken).toEqual([])
  })
})

describe('the README', () => {
  const rows = () => tableRows(readme())

  test.each(['TokenWorkerOptions', 'ApiOptions'])('has every option of %s', (name) => {
    for (const option of members('sw/options/options.ts', name)) {
      const row = rows().find(([first]) => first === code(option.name))
      expect(row, option.name).toBeDefined()
      if (option.default !== undefined) expect(row?.[2]).toBe(code(option.default))
    }
  })

  test('has no option that does not exist', () => {
    const options = ['TokenWorkerOptions', 'ApiOptions'].flatMap((name) =>
      members('sw/options/options.ts', name).map((option) => code(option.name)),
    )
    const named = tableRows(section(readme(), '## Options')).map(([first]) => first ?? '')
    expect(named.filter((name) => name.startsWith('`') && !options.includes(name))).toEqual([])
  })

  test('has every method of the token manager', () => {
    const named = rows().map(([first]) => first?.replace(/^`(\w+).*/, '$1'))
    for (const { name } of members('src/token-manager.ts', 'TokenManager')) {
      expect(named).toContain(name)
    }
  })

  test('gives every reason of a sign-out', () => {
    for (const { name } of members('src/shared/protocol.ts', 'SignedOutReason')) {
      expect(section(readme(), '### Events')).toContain(code(name))
    }
  })

  // `UPDATE_DOCS=1` writes them.
  test('names the sizes that `npm run size` measures', slow, async () => {
    const [start, end] = [/<!-- sizes: .* -->\n/, '<!-- /sizes -->']
    const text = read('README.md')
    const [before = '', rest = ''] = text.split(start)
    const [table = '', after = ''] = rest.split(end)
    const sizes = await measure()
    const kB = (size?: number) => (size === undefined ? '' : `${size.toFixed(1)} kB`)
    if (process.env['UPDATE_DOCS']) {
      const lines = sizes.map(
        ({ title, kb, squeezedKb, budget }) =>
          `| ${[title, kB(kb), kB(squeezedKb), kB(budget)].join(' | ')} |\n`,
      )
      const head = '| | esbuild | and terser | Budget, esbuild |\n| --- | --- | --- | --- |\n'
      const marker = start.exec(text)?.[0]
      writeFileSync(join(root, 'README.md'), before + marker + head + lines.join('') + end + after)
      return
    }
    // Two gzips of one text may differ by some bytes.
    const distance = (named = '', kb: number) => Math.abs(Number.parseFloat(named) - kb)
    const named = tableRows(table).slice(1)
    expect(named.map(([title]) => title)).toEqual(sizes.map(({ title }) => title))
    for (const [index, { title, kb, squeezedKb, budget }] of sizes.entries()) {
      const [, esbuild, terser, limit] = named[index] ?? []
      expect(limit, title).toBe(kB(budget))
      expect(esbuild === '', title).toBe(kb === undefined)
      if (kb !== undefined) expect(distance(esbuild, kb), `${title}: ${kb} kB`).toBeLessThan(0.1)
      expect(distance(terser, squeezedKb), `${title}: ${squeezedKb} kB`).toBeLessThan(0.1)
    }
  })
})

describe('docs/errors.md', () => {
  const codes = members('src/shared/errors.ts', 'TokenErrorCode').map(({ name }) => name)
  const headings = () =>
    [...parse('docs/errors.md').text.matchAll(/^### (.*)$/gm)].map(([, heading = '']) => heading)

  test('explains every code, and no other', () => {
    expect(headings().toSorted()).toEqual(codes.map(code).toSorted())
  })

  test('says of each whether it is transient, and what to do', () => {
    const { text } = parse('docs/errors.md')
    const bad = codes.filter((name) => {
      const { transient } = new TokenError(name as TokenErrorCode, '')
      const words = section(text, `### ${code(name)}`)
      return !words.includes(`Transient: ${transient ? 'yes' : 'no'}. `) || words.length < 60
    })
    expect(bad).toEqual([])
  })
})

describe('docs/storage.md', () => {
  const text = () => parse('docs/storage.md').text

  test.each(['ActiveRecord', 'EndedRecord', 'BegunTransaction', 'DepartedTransaction', 'Outcome'])(
    'has every field of %s, a contract between versions',
    (name) => {
      for (const field of members('sw/session/records.ts', name)) {
        expect(text()).toContain(code(field.name))
      }
    },
  )

  test('names the databases and their stores as the code does', () => {
    expect(read('sw/session/store.ts')).toMatch(/`tokenward \$\{issuer\} \$\{clientId\}`/)
    expect(text()).toContain('name `tokenward <issuer> <clientId>`')
    const database = read('sw/session/database.ts')
    const stores = [...database.matchAll(/createObjectStore\('(\w+)'\)/g)].map(([, name]) => name)
    expect(stores).toHaveLength(4)
    for (const name of stores) expect(text()).toContain(code(name ?? ''))
  })

  test('lists what is not on the disk with `memory` as the code does', () => {
    const [, list = ''] = /const noTokens[^{]+{([^}]+)}/.exec(read('sw/session/store.ts')) ?? []
    const names = [...list.matchAll(/(\w+):/g)].map(([, name = '']) => name)
    expect(names).toContain('refreshToken')
    const [, section = ''] = /## Modes\n([^#]+)/.exec(text()) ?? []
    for (const name of names) expect(section).toContain(code(name))
  })
})

describe('docs/reliability.md', () => {
  // The first table stands for all: they are written together.
  test('has the figures of `npm run simulate:fleet`', slow, () => {
    const [usual] = scenarios
    expect(read('docs/reliability.md')).toContain(tableOf(usual, outcomesOf(usual)))
  })
})

describe('docs/architecture.md', () => {
  test('has every module of page and worker', () => {
    const text = read('docs/architecture.md')
    const files = ['src', 'sw'].flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' }),
    )
    const modules = files.filter((file) => file.endsWith('.ts')).map((file) => basename(file))
    expect(modules.length).toBeGreaterThan(60)
    const isNamed = (name: string) => text.includes(code(name)) || text.includes(`/${name}\``)
    const missing = modules.filter((name) => name !== 'index.ts' && !isNamed(name))
    expect(missing).toEqual([])
  })
})
