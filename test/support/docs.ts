// Reads the Markdown files of the repository, and compiles the code in them.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'

export const root = fileURLToPath(new URL('../..', import.meta.url)).replace(/[\\/]$/, '')

/** Every Markdown file, by its path from the root. */
export const markdownFiles = (): string[] =>
  ['.', 'docs', 'docs/decisions'].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.md'))
      .map((name) => (folder === '.' ? name : `${folder}/${name}`)),
  )

export const read = (file: string): string => readFileSync(join(root, file), 'utf8')

/** A fenced block: ` ```ts page `. The word after the language says where it runs. */
export interface CodeBlock {
  file: string
  /** Line of the first line of code, from 1 */
  line: number
  language: string
  /** `page`, `worker`, or `skip: and why` */
  place: string
  code: string
}

const fence = /^(`{3,})(.*)$/

/** A Markdown file, taken apart into its fenced blocks and the text around them. */
export const parse = (file: string): { blocks: CodeBlock[]; text: string } => {
  const blocks: CodeBlock[] = []
  const text: string[] = []
  let open: { block: CodeBlock; ticks: string } | undefined
  for (const [index, line] of read(file).split('\n').entries()) {
    const [, ticks = '', info = ''] = fence.exec(line) ?? []
    if (open) {
      if (ticks === open.ticks && info === '') open = undefined
      else open.block.code += `${line}\n`
    } else if (ticks) {
      const [language = '', ...rest] = info.trim().split(' ')
      const block = { file, line: index + 2, language, place: rest.join(' '), code: '' }
      open = { block, ticks }
      blocks.push(block)
    } else {
      text.push(line)
    }
  }
  return { blocks, text: text.join('\n') }
}

/** The anchor that GitHub makes of a heading. */
const anchorOf = (heading: string): string =>
  heading
    .replaceAll('`', '')
    .replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1')
    .trim()
    .toLowerCase()
    .replaceAll(/[^\p{L}\p{N}_ -]/gu, '')
    .replaceAll(' ', '-')

export const anchors = (file: string): string[] =>
  [...parse(file).text.matchAll(/^#{1,6} (.*)$/gm)].map(([, heading = '']) => anchorOf(heading))

/** Targets of the links in a file's text. */
export const links = (file: string): string[] =>
  [...parse(file).text.matchAll(/\]\(([^)\s]+)\)/g)].map(([, target = '']) => target)

/** What blocks may use without declaring it. Documented in docs/recipes.md and CONTRIBUTING.md. */
const surroundings = {
  page: `
    import type { TokenManager } from 'tokenward'
    declare global {
      const auth: TokenManager
      const signInButton: HTMLButtonElement
      const banner: HTMLElement
      const form: HTMLTextAreaElement
      interface ImportMeta { env: { DEV: boolean; BASE_URL: string } }
    }`,
  /** Its own types take as long to read as everything else together. */
  vitest: `
    export declare const test: (title: string, run: () => unknown) => void
    export declare const expect: (value: unknown) => {
      toBeUndefined(): void
      toEqual(other: unknown): void
    }`,
  worker: `
    import type * as library from 'tokenward/worker'
    declare global { const tokenward: typeof library }`,
}

const options = {
  page: { lib: ['lib.es2023.d.ts', 'lib.dom.d.ts', 'lib.dom.iterable.d.ts'] },
  worker: { lib: ['lib.es2023.d.ts', 'lib.webworker.d.ts', 'lib.webworker.iterable.d.ts'] },
}

/** Compiles blocks of one place against the sources; gives what the compiler has to say. */
export const typeCheck = (place: 'page' | 'worker', blocks: readonly CodeBlock[]): string[] => {
  // With the slashes that the compiler uses.
  const path = (name: string) => join(root, 'docs', `.${place}`, name).replaceAll('\\', '/')
  const files = new Map([
    [path('surroundings.d.ts'), { text: surroundings[place], from: '' }],
    [path('vitest.d.ts'), { text: surroundings.vitest, from: '' }],
  ])
  for (const [index, { file, line, language, code }] of blocks.entries()) {
    files.set(path(`${index}.${language}`), {
      text: `${code};export {}\n`,
      from: `${file}:${line}`,
    })
  }
  const host = ts.createCompilerHost({})
  const { getSourceFile, fileExists } = host
  host.fileExists = (name) => files.has(name) || fileExists(name)
  host.getSourceFile = (name, target, ...rest) => {
    const virtual = files.get(name)
    return virtual
      ? ts.createSourceFile(name, virtual.text, target)
      : getSourceFile(name, target, ...rest)
  }
  const program = ts.createProgram(
    [...files.keys()],
    {
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      paths: {
        tokenward: [join(root, 'src/index.ts')],
        'tokenward/worker': [join(root, 'sw/index.ts')],
        'tokenward/testing': [join(root, 'src/testing.ts')],
        'tokenward/workbox': [join(root, 'sw/workbox.ts')],
        vitest: [path('vitest.d.ts')],
      },
      types: [],
      strict: true,
      allowJs: true,
      checkJs: true,
      noEmit: true,
      skipLibCheck: true,
      ...options[place],
    },
    host,
  )
  return [...files].flatMap(([name, { from }]) => {
    const source = program.getSourceFile(name)
    return [
      ...program.getSyntacticDiagnostics(source),
      ...program.getSemanticDiagnostics(source),
    ].map(({ file, start, messageText }) => {
      const { line } = file!.getLineAndCharacterOfPosition(start ?? 0)
      const [doc, first] = from.split(':')
      const message = ts.flattenDiagnosticMessageText(messageText, ' ')
      return `${doc || dirname(name)}:${Number(first) + line} ${message}`
    })
  })
}

/** The strings of a list that a source file declares. */
const elements = (source: ts.SourceFile, list: string): { name: string }[] => {
  const text = source.getFullText()
  const [, inside = ''] = new RegExp(`const ${list} = \\[([^\\]]*)\\]`).exec(text) ?? []
  return [...inside.matchAll(/'(\w+)'/g)].map(([, name = '']) => ({ name }))
}

/** The members of an interface or string union in a source file, with their `@default`. */
export const members = (file: string, name: string): { name: string; default?: string }[] => {
  const source = ts.createSourceFile(file, read(file), ts.ScriptTarget.ES2022, true)
  const found = source.statements.find(
    (statement) =>
      (ts.isInterfaceDeclaration(statement) || ts.isTypeAliasDeclaration(statement)) &&
      statement.name.text === name,
  )
  if (found && ts.isInterfaceDeclaration(found)) {
    return found.members.map((member) => {
      const tag = ts.getJSDocTags(member).find(({ tagName }) => tagName.text === 'default')
      const text = ts.getTextOfJSDocComment(tag?.comment)?.trim()
      return { name: member.name!.getText(source), ...(text && { default: text }) }
    })
  }
  if (found && ts.isTypeAliasDeclaration(found)) {
    const { type } = found
    // `(typeof list)[number]`: what the list has.
    const [, list] = /^\(typeof (\w+)\)\[number\]$/.exec(type.getText(source)) ?? []
    if (list) return elements(source, list)
    return (ts.isUnionTypeNode(type) ? type.types : [type]).flatMap((each) =>
      ts.isTypeReferenceNode(each)
        ? members(file, each.typeName.getText(source))
        : [{ name: each.getText(source).replaceAll("'", '') }],
    )
  }
  throw new Error(`${file} has no ${name}`)
}

/** The rows of all tables in a Markdown text, as the text of their cells. */
export const tableRows = (text: string): string[][] =>
  text
    .split('\n')
    .filter((line) => /^\|(?! ---)/.test(line))
    .map((line) =>
      line
        .replace(/^\||\|$/g, '')
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim()),
    )

/** The part of a Markdown text below a heading, up to the next one of its level or above. */
export const section = (text: string, heading: string): string => {
  const level = /^#+/.exec(heading)?.[0].length ?? 1
  const [, after = ''] = `\n${text}`.split(`\n${heading}\n`)
  return after.split(new RegExp(`^#{1,${level}} `, 'm'))[0] ?? ''
}

/** The table between `<!-- name -->` and `<!-- /name -->`: cells by row and column title. */
export const readTable = (file: string, name: string): Map<string, Map<string, string>> => {
  const inside = read(file).split(`<!-- ${name} -->`)[1]?.split(`<!-- /${name} -->`)[0] ?? ''
  const rows = inside
    .trim()
    .split('\n')
    .map((line) => line.split('|').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.replaceAll('`', '').trim()))
  const [[, ...columns] = [], , ...body] = rows
  return new Map(
    body.map(([title = '', ...cells]) => [
      title,
      new Map(columns.map((column, index) => [column, cells[index] ?? ''])),
    ]),
  )
}
