//! `#[kernel_test(…)]`: a record in section `tests`, a line in section `test_names`.

use proc_macro2::TokenStream;
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Error, Ident, ItemFn, LitInt, LitStr, Result, Token};

/// The line's part after the name: ` status=2 says=out_of_memory`.
pub(crate) struct Keys(String);

impl Parse for Keys {
    fn parse(input: ParseStream) -> Result<Keys> {
        let mut line = String::new();
        while !input.is_empty() {
            let key: Ident = input.parse()?;
            let value = match key.to_string().as_str() {
                "off" | "unstressed" | "uefi" | "resets" | "nmis" => "true".to_owned(),
                "status" => after_equals::<LitInt>(input)?.base10_parse::<u8>()?.to_string(),
                "says" => after_equals::<LitStr>(input)?.value().replace(' ', "_"),
                "build" | "cmdline" | "mem" => after_equals::<LitStr>(input)?.value(),
                _ => {
                    return Err(Error::new_spanned(
                        &key,
                        "expected `status = 2`, `says = \"…\"`, `cmdline = \"…\"`, `mem = \"64M\"`, `build = \"lsr\"`, `off`, `unstressed`, `uefi`, `resets` or `nmis`",
                    ));
                }
            };
            if value.is_empty() || value.contains(char::is_whitespace) {
                return Err(Error::new_spanned(
                    &key,
                    "the value must have no white space (settings: comma between them)",
                ));
            }
            line.push_str(&format!(" {key}={value}"));
            if !input.is_empty() {
                input.parse::<Token![,]>()?;
            }
        }
        Ok(Keys(line))
    }
}

fn after_equals<T: Parse>(input: ParseStream) -> Result<T> {
    input.parse::<Token![=]>()?;
    input.parse()
}

pub(crate) fn expand(keys: Keys, item: TokenStream) -> Result<TokenStream> {
    let function: ItemFn = syn::parse2(item)?;
    let name = &function.sig.ident;
    let end_of_line = format!("{}\n", keys.0);
    Ok(quote! {
        #function

        #[allow(unsafe_code)]
        const _: () = {
            const RUN: fn() = #name;
            const PATH: &str = concat!(module_path!(), "::", stringify!(#name));
            // Past the crate's name.
            const START: usize = {
                let mut at = 0;
                while PATH.as_bytes()[at] != b':' {
                    at += 1;
                }
                at + 2
            };
            const LINE: &[u8] = concat!(module_path!(), "::", stringify!(#name), #end_of_line).as_bytes().split_at(START).1;
            const TEST: ::runtime::testing::KernelTest =
                ::runtime::testing::KernelTest { name: PATH.split_at(START).1, run: RUN };
            #[cfg(any(target_os = "none", target_os = "linux"))]
            #[used]
            #[unsafe(link_section = "tests")]
            static ENTRY: ::runtime::testing::KernelTest = TEST;
            #[cfg(any(target_os = "none", target_os = "linux"))]
            #[used]
            #[unsafe(link_section = "test_names")]
            static TEXT: [u8; LINE.len()] = match LINE.first_chunk() {
                Some(text) => *text,
                None => [0; LINE.len()],
            };
            #[cfg(not(any(target_os = "none", target_os = "linux")))]
            let _ = (TEST, LINE);
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(keys: &str) -> Result<String> {
        syn::parse_str::<Keys>(keys).map(|keys| keys.0)
    }

    #[test]
    fn keys_become_one_line_of_text() {
        assert_eq!(line("").expect("no keys"), "");
        assert_eq!(line("off").expect("a flag"), " off=true");
        assert_eq!(
            line(r#"status = 2, says = "out of memory", cmdline = "GOGC=off,GODEBUG=gctrace=1", mem = "64M","#)
                .expect("all keys"),
            " status=2 says=out_of_memory cmdline=GOGC=off,GODEBUG=gctrace=1 mem=64M"
        );
    }

    #[test]
    fn unknown_keys_and_values_with_white_space_are_refused() {
        assert!(line("statos = 2").is_err());
        assert!(line("status = 256").is_err());
        assert!(line(r#"cmdline = "GOGC=off GODEBUG=gctrace=1""#).is_err());
        assert!(line(r#"mem = """#).is_err());
    }
}
