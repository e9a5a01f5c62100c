//! The cities of the world, as shipped with the program. `data/README.md` names their source.

use std::io::{BufReader, Read};

use flate2::bufread::GzDecoder;

use crate::failure::{Failure, Result};

/// The rows, sorted and compressed with gzip.
const COMPRESSED: &[u8] = include_bytes!("../../data/cities.tsv.gz");

/// A place where people live.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct City {
    pub(super) name: String,
    /// ISO 3166-1 alpha-2.
    pub(super) country: String,
    /// Of GeoNames; unique.
    pub(super) id: u64,
    /// First administrative division; may be empty.
    pub(super) region: String,
    pub(super) population: u64,
    /// Degrees north, as text: the tour only shows them.
    pub(super) latitude: String,
    /// Degrees east.
    pub(super) longitude: String,
}

/// All cities, in the order of their keys, and the bytes of their rows.
pub(super) fn all() -> Result<(Vec<City>, u64)> {
    let mut text = String::new();
    BufReader::new(GzDecoder::new(COMPRESSED))
        .read_to_string(&mut text)
        .map_err(|error| Failure::other(format!("the data of the tour is damaged: {error}")))?;
    let cities = text.lines().enumerate().map(|(index, row)| {
        City::parse(row).ok_or_else(|| {
            Failure::other(format!("the data of the tour is damaged in line {}", index + 1))
        })
    });
    Ok((cities.collect::<Result<_>>()?, text.len() as u64))
}

impl City {
    fn parse(row: &str) -> Option<Self> {
        let columns: Vec<&str> = row.split('\t').collect();
        let [name, country, id, region, population, latitude, longitude] = *columns else {
            return None;
        };
        Some(Self {
            name: name.to_owned(),
            country: country.to_owned(),
            id: id.parse().ok()?,
            region: region.to_owned(),
            population: population.parse().ok()?,
            latitude: latitude.to_owned(),
            longitude: longitude.to_owned(),
        })
    }

    /// Key by name. The id makes it unique: many places share a name.
    pub(super) fn key(&self) -> String {
        format!("{}/{}/{}", self.name, self.country, self.id)
    }

    /// Key by country and population; zero-padded, so that byte order is numeric order.
    pub(super) fn index_key(&self) -> String {
        format!("{}/{:010}/{}", self.country, self.population, self.id)
    }

    /// The stored value.
    pub(super) fn value(&self) -> String {
        let region = serde_json::Value::from(self.region.as_str());
        format!(
            "{{\"region\":{region},\"population\":{},\"latitude\":{},\"longitude\":{}}}",
            self.population, self.latitude, self.longitude
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_data_is_a_city() {
        let (cities, _) = all().unwrap();
        assert_eq!(cities.len(), 112_320);
        assert!(cities.iter().all(|city| 1_000 <= city.population && city.country.len() == 2));
        let mut keys: Vec<String> = cities.iter().map(City::key).collect();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), cities.len());
    }

    #[test]
    fn keys_and_value() {
        let row = "Lisbon\tPT\t2267057\tLisbon\t517802\t38.7167\t-9.1333";
        let city = City::parse(row).unwrap();
        assert_eq!(city.key(), "Lisbon/PT/2267057");
        assert_eq!(city.index_key(), "PT/0000517802/2267057");
        assert_eq!(
            city.value(),
            r#"{"region":"Lisbon","population":517802,"latitude":38.7167,"longitude":-9.1333}"#
        );
        assert_eq!(City::parse("Lisbon\tPT"), None);
    }
}
