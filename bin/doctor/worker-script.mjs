// What the worker's source says: which library, and with which options.

import { isLoopback } from './cross-origin.mjs'
import { targetOf } from './web.mjs'

/**
 * @typedef {import('./web.mjs').Web} Web
 * @typedef {import('./web.mjs').Answer} Answer
 * @typedef {import('./web.mjs').NoAnswer} NoAnswer
 *
 * @typedef {object} Script
 * @property {string} url
 * @property {Answer | NoAnswer} answer
 */

const MOST_SCRIPTS = 12

// Patterns for foreign text have bounds, so that none takes its time over a megabyte of one thing.

/** Without the comments that begin a line. @param {string} text */
const withoutComments = (text) => {
  let isInside = false
  const lines = text.split('\n').filter((line) => {
    const start = line.trimStart()
    const isComment = isInside || /^\/[/*]/.test(start)
    if (isInside || start.startsWith('/*')) isInside = !line.includes('*/')
    // What follows a comment on its line belongs to the code, as in /*! banner */ code.
    return !isComment || /\*\/\s*\S/.test(line)
  })
  return lines.join('\n')
}

/** @param {string} text */
export const isModule = (text) =>
  /^[ \t]*(?:import(?:\s+[\w$]|\s*[{*"'])|export(?:\s+\w|\s*[{*]))/m.test(text)

/** @param {string} path */
const isDevelopmentFile = (path) => /\.development\.js$/.test(path)

/**
 * What one call of `importScripts` imports on this host: the worker of the quick start takes one
 * file on localhost and another elsewhere.
 *
 * @param {string} list Its arguments @param {string} url
 */
const importedBy = (list, url) => {
  const paths = [...list.matchAll(/(["'`])((?:(?!\1)[^$\s])+)\1/g)].map(([, , path = '']) => path)
  const chooses = /\bhostname\b/.test(list) && paths.some(isDevelopmentFile)
  const isLocal = isLoopback(new URL(url).hostname)
  return chooses ? paths.filter((path) => isDevelopmentFile(path) === isLocal) : paths
}

/** Scripts that a script names outright. @param {Answer} answer @returns {string[]} */
const importsOf = ({ url, text }) => {
  const code = withoutComments(text)
  // The arguments may have brackets, as those of `test(…)` have.
  const calls = [
    ...code.matchAll(/\bimportScripts\s{0,20}\(((?:[^()]|\([^()]{0,200}\)){0,9999})\)/g),
  ].flatMap(([, list = '']) => importedBy(list, url))
  const statements = [
    ...code.matchAll(
      /^[ \t]*(?:import|export)\b[^;'"]{0,600}?(["'])((?:\.{0,2}\/|https?:)[^"'\s]+)\1/gm,
    ),
  ].map(([, , path = '']) => path)
  return [...calls, ...statements]
    .filter((path) => URL.canParse(path, url))
    .map((path) => new URL(path, url).href)
}

/** @param {string} text */
export const libraryVersion = (text) => /\/\*! tokenward (\S+)/.exec(text)?.[1]

/** Whether it has the development build of the library in it. @param {string} text */
export const isDevelopment = (text) => /\/\*! tokenward \S+ development\b/.test(text)

/** Whether it is nothing but the library. @param {string} text */
const isLibrary = (text) => text.startsWith('/*! tokenward ')

/** @param {string} text */
export const mentionsLibrary = (text) => text.includes('tokenward')

/**
 * A worker script and what it imports, the worker first.
 *
 * @param {Web} web @param {Answer} worker @returns {Promise<Script[]>}
 */
export const collectScripts = async (web, worker) => {
  const scripts = [{ url: worker.url, answer: /** @type {Answer | NoAnswer} */ (worker) }]
  for (const { answer } of scripts) {
    if (answer.problem !== undefined || answer.status !== 200) continue
    for (const url of importsOf(answer)) {
      if (scripts.length >= MOST_SCRIPTS || scripts.some((known) => known.url === url)) continue
      let imported = await web.ask(url)
      const target = imported.problem === undefined && targetOf(imported)
      if (target) imported = await web.ask(target)
      scripts.push({ url, answer: imported })
    }
  }
  return scripts
}

/** The first string literal that a property has. @param {string} text @param {string} name */
const literal = (text, name) =>
  new RegExp(
    `(?:^|[^\\w.$])["']?${name}["']?\\s*:\\s*(["'\`])((?:(?!\\1)[^$\\\\\\s]){1,2000})\\1`,
  ).exec(text)?.[2]

/**
 * The strings of an array, and the `url` of its objects.
 *
 * @param {string} text @param {string} name
 * @returns {{ urls: string[], isWhole: boolean } | undefined}
 */
const apiList = (text, name) => {
  const start = new RegExp(`(?:^|[^\\w.$])${name}\\s*:\\s*\\[`).exec(text)
  if (!start) return undefined
  const urls = /** @type {string[]} */ ([])
  let isWhole = true
  let depth = 1
  let before = '['
  const tokens = /(["'`])((?:\\.|(?!\1)[^\\])*)\1|[[\]{}(),:]|[\w$.]+/g
  tokens.lastIndex = start.index + start[0].length
  for (let found = tokens.exec(text); found && depth > 0; found = tokens.exec(text)) {
    const [token, quote, value = ''] = found
    if (quote) {
      const isEntry = depth === 1 || (depth === 2 && before === 'url:')
      if (isEntry && /^(?:https?:\/)?\/[^$]*$/.test(value)) urls.push(value)
      else if (isEntry) isWhole = false
    } else if (/^[[{(]$/.test(token)) depth += 1
    else if (/^[\]})]$/.test(token)) depth -= 1
    else if (/^\w/.test(token) && (depth === 1 || before === 'url:')) isWhole = false
    before = token === ':' ? `${before}:` : quote ? value : token
  }
  return { urls, isWhole }
}

/**
 * Options that stand in the source as plain text, each with the script that it was read in.
 *
 * @param {Script[]} scripts
 */
export const readOptions = (scripts) => {
  const own = scripts.flatMap(({ url, answer }) => {
    if (answer.problem !== undefined || answer.status !== 200 || isLibrary(answer.text)) return []
    const text = withoutComments(answer.text)
    // In a bundle, what belongs to the call is what comes after it.
    const call = text.lastIndexOf('createTokenWorker(')
    return [{ url, texts: call === -1 ? [text] : [text.slice(call), text] }]
  })
  /** @param {string} name @param {RegExp} [form] */
  const find = (name, form = /./) => {
    for (const { url, texts } of own) {
      for (const text of texts) {
        const value = literal(text, name)
        if (value !== undefined && form.test(value)) return { value, from: url }
      }
    }
    return undefined
  }
  /** @param {string} name */
  const findUrl = (name) => {
    const found = find(name, /^https?:\/\//)
    return found && URL.canParse(found.value) ? found : undefined
  }
  const lists = own.flatMap(({ texts }) => texts.map((text) => apiList(text, 'apis')))
  return {
    issuer: findUrl('issuer'),
    clientId: find('clientId'),
    authPath: find('authPath', /^(?:[\w-]+\/)+$/),
    redirectUri: findUrl('redirectUri'),
    apis: lists.find((list) => list !== undefined),
  }
}

/** @param {Script[]} scripts @param {RegExp} pattern @returns {string | undefined} The script */
export const findInScripts = (scripts, pattern) =>
  scripts.find(({ answer }) => answer.problem === undefined && pattern.test(answer.text))?.url
