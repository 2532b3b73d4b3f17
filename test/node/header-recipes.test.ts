// Five recipes in five languages, one set of headers.
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PAGES } from '../../bin/auth-pages.mjs'
import { startSite } from '../../demo/site.mjs'
import { parse, read, section } from '../support/docs.js'

type Headers = Record<string, string>
/** The headers by what they are for. */
type Recipe = { pages: Headers; worker: Headers }

const { blocks } = parse('docs/security.md')
const recipes = section(read('docs/security.md'), '### Headers for the callback page')
const code = (language: string) =>
  blocks.filter((block) => block.language === language && recipes.includes(block.code))

const headersIn = (text: string, pattern: RegExp): Headers =>
  Object.fromEntries(
    [...text.matchAll(pattern)].map(([, name = '', double, single, bare]) => [
      name.toLowerCase(),
      (double ?? single ?? bare ?? '').trim(),
    ]),
  )

/** Splits a recipe where the worker's part begins. */
const split = (text: string, worker: RegExp, pattern: RegExp): Recipe => {
  const at = text.search(worker)
  return {
    pages: headersIn(text.slice(0, at), pattern),
    worker: headersIn(text.slice(at), pattern),
  }
}

const readers: Record<string, { language: string; read: (text: string) => Recipe }> = {
  nginx: {
    language: 'nginx',
    read: (text) =>
      split(
        text,
        /location = \/sw\.js/,
        /^\s*add_header ([\w-]+) (?:"([^"]*)"|'([^']*)'|(\S+)) always;$/gm,
      ),
  },
  Caddy: {
    language: 'caddyfile',
    read: (text) =>
      split(text, /header \/sw\.js/, /^ {2}([A-Z][\w-]+) (?:"([^"]*)"|'([^']*)'|(\S+))$/gm),
  },
  Express: {
    language: 'js',
    read: (text) =>
      split(text, /app\.use\('\/sw\.js'/, /^ {4}'([\w-]+)':\s+(?:"([^"]*)"|'([^']*)'),$/gm),
  },
  'Netlify and Cloudflare Pages': {
    language: '',
    read: (text) => split(text, /^\/sw\.js$/m, /^ {2}([\w-]+):(?:(?!)()|(?!)()| (.*))$/gm),
  },
  Vercel: {
    language: 'json',
    read: (text) => {
      const headersFor = (source: string): Headers => {
        const { headers = [] } = JSON.parse(text).headers.find(
          (entry: { source: string }) => entry.source === source,
        )
        return Object.fromEntries(
          headers.map(({ key, value }: { key: string; value: string }) => [
            key.toLowerCase(),
            value,
          ]),
        )
      }
      return { pages: headersFor('/tokenward/(.*)'), worker: headersFor('/sw.js') }
    },
  },
}

const found = Object.entries(readers).map(([host, { language, read }]) => {
  const [block, ...others] = code(language)
  return { host, others, recipe: read(block?.code ?? '{"headers":[]}') }
})

let site: Awaited<ReturnType<typeof startSite>>
beforeAll(async () => {
  site = await startSite({ roots: ['public'] })
})
afterAll(() => site?.close())

describe('the header recipe', () => {
  test.each(found)('for $host is there once and has the headers of all others (CB-13)', (each) => {
    expect(each.others).toEqual([])
    expect(Object.keys(each.recipe.pages)).toHaveLength(6)
    expect(Object.keys(each.recipe.worker)).toHaveLength(3)
    expect(each.recipe).toEqual(found[0]?.recipe)
  })

  test.each(PAGES)('is what the demo serves %s with (CB-13)', async (name) => {
    const { headers } = await fetch(`${site.origin}/tokenward/${name}.html`)
    expect(Object.fromEntries(headers)).toMatchObject(found[0]!.recipe.pages)
  })
})
